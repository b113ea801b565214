"""What a task needs of the machine on which it runs, and how many workers that leaves room for."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from astra_dagster.errors import DeclarationError, nearest
from astra_dagster.files import read_text

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
"""Bytes of the units in which memory is given."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker needs; 0 for what it needs no more of than any other.

    Attributes
    ----------
    memory
        Memory in bytes.
    walltime
        Seconds that a job of a cluster may last, at least.
    gpus
        Number of GPUs.
    """

    memory: int = 0
    walltime: int = 0
    gpus: int = 0

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> "Resources":
        """Read what a task declares: ``{"memory": "8GB", "walltime": "04:00:00", "gpus": 1}``, or some of it.

        Raises
        ------
        DeclarationError
            If there is no such resource, or it cannot be so much.
        """
        readers = {"memory": _read_memory, "walltime": read_walltime, "gpus": _read_gpus}
        for name in given:
            if name not in readers:
                raise DeclarationError(f"a task cannot need {name!r}", hint=nearest(str(name), readers))
        return cls(**{name: readers[name](value) for name, value in given.items()})

    def join(self, other: "Resources") -> "Resources":
        """Return what a worker needs that does the work of both."""
        return Resources(*(max(getattr(self, one.name), getattr(other, one.name)) for one in fields(self)))

    def fitting(self, workers: int, *, memory: int, gpus: int) -> int:
        """Return how many of so many workers find room in a memory in bytes, and a GPU; at least 1."""
        if self.memory:
            workers = min(workers, memory // self.memory)
        if self.gpus:
            workers = min(workers, gpus // self.gpus)
        return max(workers, 1)


NONE = Resources()
"""No more than any worker has."""


def memory_here() -> int:
    """Return the memory of this machine in bytes, or what its control group leaves of it."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = read_text("/sys/fs/cgroup/memory.max")
    except (OSError, ValueError):
        return installed
    return min(installed, int(limit)) if limit.strip().isdigit() else installed


def gpus_here() -> int:
    """Return the number of NVIDIA's GPUs of this machine."""
    return sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in Path("/dev").glob("nvidia*"))


def _read_memory(value: object) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", value) if isinstance(value, str) else None
    if found is None or found[2] not in UNITS or not float(found[1]):
        raise DeclarationError(f"memory cannot be {value!r}", hint=f'a number with {", ".join(UNITS)}: "8GB"')
    return round(float(found[1]) * UNITS[found[2]])


def _read_gpus(value: object) -> int:
    if type(value) is not int or value < 0:
        raise DeclarationError(f"gpus cannot be {value!r}", hint="a whole number")
    return value


def read_walltime(value: object) -> int:
    """Read a walltime as Slurm has it, ``04:00:00`` or ``1-00:00:00``, in seconds.

    Raises
    ------
    DeclarationError
        If it is not written so.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+):([0-5]\d):([0-5]\d)", value) if isinstance(value, str) else None
    if found is None:
        raise DeclarationError(f"walltime cannot be {value!r}", hint='hours, minutes and seconds: "04:00:00"')
    days, hours, minutes, seconds = (int(text or 0) for text in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def walltime_text(seconds: int) -> str:
    """Return a walltime as Slurm reads it: ``04:00:00``."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
