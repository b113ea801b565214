"""Files that the function of a task receives as they are, or makes besides its results."""
