"""Find, watch and fetch files, on this disk and on the Science Archive Server. Their names come from `datamodel`."""
