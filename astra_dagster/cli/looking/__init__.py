"""The commands that look at what was computed: results, tables, spectra."""
