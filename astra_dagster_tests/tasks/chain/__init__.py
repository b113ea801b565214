"""Tests of the chain of velocities and combined spectra."""
