"""The columns that every table of a task has besides the results. Needs no pyarrow, which is slow to import."""

from astra_dagster.tasks.groups import Domain

KEY = "key"
"""The partition key: a column of databases; elsewhere its parts are columns."""

PART = "Part of the partition key."
SPECTRUM, WHICH = "spectrum", "Which spectrum of the file, from 0."

PROVENANCE = {
    "digest": "Digest of the parameters.",
    "code_version": "Code version of the task.",
    "data_version": "Data version of the output, as its record has it.",
    "input_version": "Data version of what the output was made from.",
}
"""Columns after the results, with their meaning."""


def part_names(domain: Domain) -> tuple[str, ...]:
    """Names of the parts of a partition key, the release first."""
    return ("release", *domain.parts)
