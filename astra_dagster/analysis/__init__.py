"""Functions from arrays to arrays. Nothing here reads files or knows of products; NumPy is all that is needed."""
