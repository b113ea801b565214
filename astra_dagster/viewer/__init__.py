"""Pages and pictures of spectra."""
