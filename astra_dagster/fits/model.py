"""The types and shapes that the data model allows for an array. Headers are compared with them before data are read."""

from typing import NamedTuple

_KINDS = {"f": "real numbers", "i": "integers", "u": "integers", "b": "logical values", "U": "text"}

Shape = tuple[int | range, ...]
"""For each axis its length, or the range of lengths that it may have."""


class Model(NamedTuple):
    """What the data model allows for an array, or for the cells of a column in one row.

    Attributes
    ----------
    kinds
        Allowed NumPy kinds of type: "f" for fluxes, "iu" for masks, "b" for logical columns, "U" for text.
    shapes
        Allowed shapes; that of a column with one value in each row is ``()``.
    """

    kinds: str
    shapes: tuple[Shape, ...]

    def has(self, shape: tuple[int, ...]) -> bool:
        """Whether an array may have this shape."""
        return shape in self.shapes or any(len(shape) == len(known) and _has(known, shape) for known in self.shapes)

    @property
    def shape(self) -> str:
        """The allowed shapes in words."""
        return " or ".join(f"({', '.join(map(say_lengths, shape))}{',' * (len(shape) == 1)})" for shape in self.shapes)

    @property
    def type(self) -> str:
        """The allowed types in words."""
        return " or ".join(dict.fromkeys(_KINDS[kind] for kind in self.kinds))


def _has(known: Shape, shape: tuple[int, ...]) -> bool:
    return all(
        size in axis if isinstance(axis, range) else size == axis for size, axis in zip(shape, known, strict=True)
    )


def say_lengths(lengths: int | range) -> str:
    """Write a length, or a range of lengths, in words."""
    return f"{lengths[0]} to {lengths[-1]}" if isinstance(lengths, range) else str(lengths)
