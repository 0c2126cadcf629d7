"""The confusion matrix from which all scores follow, and the plots of the notebooks."""
