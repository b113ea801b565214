"""The SDSS data model: how files are named, and where they lie. Nothing here reads or writes them."""
