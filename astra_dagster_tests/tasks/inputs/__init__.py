"""Tests of the files that functions of tasks receive and make."""
