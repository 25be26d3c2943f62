"""The compiled model in a file: building, keeping, finding, running it."""
