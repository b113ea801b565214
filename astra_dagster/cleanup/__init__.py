"""Find files below the outputs folder that are no longer needed, and remove them."""
