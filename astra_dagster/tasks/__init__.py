"""The task abstraction: parameters, completeness, outputs and the runner."""
