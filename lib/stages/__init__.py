"""One module per notebook: its options and the function that does its work."""
