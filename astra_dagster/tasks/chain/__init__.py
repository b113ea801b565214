"""A survey's chain, end to end: visits, their velocities, the combined spectrum of a star, and its S/N.

These tasks are not among those that are always there: ``packages = ["astra_dagster.tasks.chain"]`` in the configuration
adds them.
"""
