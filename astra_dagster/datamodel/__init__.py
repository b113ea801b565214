"""What a file is called and where it lies."""
