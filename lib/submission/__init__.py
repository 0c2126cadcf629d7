"""The competition's ``submission.csv``: run lengths, the checked table, its score."""
