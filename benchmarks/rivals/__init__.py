"""Other ways to run the same dynamics, written here for comparison. None is right at depth."""
