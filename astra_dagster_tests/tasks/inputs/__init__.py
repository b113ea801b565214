"""Tests of what the functions of tasks receive besides spectra and columns."""
