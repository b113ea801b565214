"""What a task requires, and the forms in which its function receives files; and the files that it makes."""
