"""Rows of a table as text for people."""

from collections.abc import Sequence
from typing import Any


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of texts as lines in which the columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def write_cell(value: Any) -> str:
    """Return a value as a table for people shows it: six digits, the first of an array, and - where it is missing."""
    if isinstance(value, list):
        return f"[{', '.join(map(write_cell, value[:3]))}{', ...' if len(value) > 3 else ''}]"
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
