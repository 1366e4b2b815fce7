"""Studies of notebook 11: wrong labels in training and test, and the size of a test set."""
