"""The bytes of FITS files: headers, reading, writing, and whether a file is all there. Knows nothing of spectra."""
