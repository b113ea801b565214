"""The contents of files that a function makes besides its columns: bytes, or figures of matplotlib."""

import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from astra_dagster.errors import TaskError

_WITHOUT_DATE: Mapping[str, Mapping[str, None]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""Metadata by suffix with which matplotlib writes no date."""


def read_contents(task: str, name: str, suffix: str, values: object, count: int) -> list[bytes | None]:
    """Return the contents of the files of each spectrum, of which some may have none.

    Raises
    ------
    TaskError
        If there is not one for each spectrum, or it is something else.
    """
    given = values if isinstance(values, Sequence) and not isinstance(values, (bytes, str)) else [values]
    if len(given) == count:
        found = [item if isinstance(item, bytes) or item is None else _draw(item, suffix) for item in given]
        if all(item is None or isinstance(item, bytes) for item in found):
            return found
    raise TaskError(
        f"{task}: {name} is no file for each spectrum",
        hint=f"expected {count} times bytes, a figure of matplotlib, or None",
    )


def _draw(figure: Any, suffix: str) -> Any:
    """Return a figure as the bytes of a file, always the same; something else is returned as it is."""
    if not hasattr(figure, "savefig"):
        return figure
    from matplotlib import rc_context  # slow to import

    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "astra_dagster"}):
        figure.savefig(stream, format=suffix, metadata=_WITHOUT_DATE.get(suffix))
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:  # it keeps every figure that it makes
        pyplot.close(figure)
    return stream.getvalue()
