"""Names of real files, with where each was found, from the table ``real_names.tsv``.

Those of reductions that are no release's own, and of internal releases, need the releases of `CONFIGURED`. A path was
found as a whole, at least below the folder that a variable of the tree names, or it is put together: a source says
which folders there are and how files are called, and the plate or star is a real one from elsewhere.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONFIGURED = {
    "DR18-eFEDS": {"tree": "DR18", "run2d": "eFEDS"},
    "DR20-1.5": {"tree": "DR20", "apred": "1.5"},
    "IPL3-ours": {"tree": "IPL3", "apred": "1.2", "run2d": "v6_1_2", "v_astra": "0.5.0"},
    "IPL4-ours": {"tree": "IPL4", "apred": "1.4", "run2d": "v6_2_1", "v_astra": "0.8.0"},
    "work-v6_0_9": {"tree": "sdsswork", "run2d": "v6_0_9"},
    "work-v6_1_1": {"tree": "sdsswork", "run2d": "v6_1_1"},
}
"""Releases of a configuration file that the table of names has."""


@dataclass(frozen=True)
class RealName:
    """The name of one real file."""

    product: str
    key: str
    path: str
    found: str
    source: str

    @property
    def release(self) -> str:
        """Release, the first part of the key."""
        return self.key.partition("/")[0]

    @property
    def tree(self) -> str:
        """Tree configuration of the release."""
        return CONFIGURED.get(self.release, {}).get("tree", self.release)


def real_names() -> list[RealName]:
    """All rows of the table."""
    with Path(__file__).with_suffix(".tsv").open(newline="", encoding="utf-8") as lines:
        return [RealName(*row) for row in list(csv.reader(lines, delimiter="\t"))[1:]]


def configuration() -> str:
    """A configuration file with the releases of `CONFIGURED`."""
    return "\n".join(_tables())


def _tables() -> Iterator[str]:
    for name, keys in CONFIGURED.items():
        yield f'[releases."{name}"]'
        yield from (f'{key} = "{value}"' for key, value in keys.items())
