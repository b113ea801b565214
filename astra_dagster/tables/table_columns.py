"""The columns that every table of a task has besides the results. Needs no pyarrow, which is slow to import."""

from collections.abc import Mapping

from astra_dagster.datamodel.keys import NUMERIC, our_name
from astra_dagster.tasks.groups import Domain

KEY, WHOLE = "key", "Partition key."
"""The partition key, beside which its parts are columns of their own."""

PART = "Part of the partition key."
NUMBERS = frozenset(map(our_name, NUMERIC))
"""Parts of partition keys that are numbers; their columns hold them without the zeros that a file name has."""

UCDS: Mapping[str, str] = {
    KEY: "meta.id",
    "telescope": "meta.id;instr.tel",
    "plate": "meta.id;instr.plate",
    "mjd": "time.epoch",
}
"""What columns of every table hold, in the words of the Virtual Observatory."""

SPECTRUM, WHICH = "spectrum", "Which spectrum of the file, from 0."

VISIT = ("telescope", "plate", "mjd", "fibre")
"""Parts of a key that are the same in every reduction of a visit."""

OBJECT = "object"
"""The result that is the name of the object, if a task has it."""

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
