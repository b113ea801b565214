"""Files on this disk and on the Science Archive Server. What files are called is the business of `datamodel`."""
