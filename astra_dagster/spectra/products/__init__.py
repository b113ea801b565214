"""Readers of single products: one file for each data model."""
