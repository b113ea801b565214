"""The bytes of FITS files: headers, reading, writing, and truncation. Nothing here knows of spectra."""
