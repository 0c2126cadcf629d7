"""A data set in the competition's layout: its tables, its image and label files, its classes."""
