"""What the function of a task receives besides spectra and columns."""
