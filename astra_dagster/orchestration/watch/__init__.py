"""Sensors that request runs when files appear."""
