"""Files below the outputs folder that are no longer needed, and their removal."""
