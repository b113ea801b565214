"""What the data model says of an array: types and shapes, to which headers are held before anything is read."""

from typing import NamedTuple

_KINDS = {"f": "real numbers", "i": "integers", "u": "integers", "b": "logical values", "U": "text"}

Shape = tuple[int | range, ...]
"""Length of each axis, or the lengths that it may have."""


class Model(NamedTuple):
    """What the data model says of an array, or of a column: of the cells of one row.

    Attributes
    ----------
    kinds
        NumPy kinds that it may have: "f" for fluxes, "iu" for masks, "b" for logical columns, "U" for text.
    shapes
        Those that it may have; of a column with one value a row it is ``()``.
    """

    kinds: str
    shapes: tuple[Shape, ...]

    def has(self, shape: tuple[int, ...]) -> bool:
        """Whether an array may have this shape."""
        return shape in self.shapes or any(len(shape) == len(known) and _has(known, shape) for known in self.shapes)

    @property
    def shape(self) -> str:
        """The shapes in words."""
        return " or ".join(f"({', '.join(map(say_lengths, shape))}{',' * (len(shape) == 1)})" for shape in self.shapes)

    @property
    def type(self) -> str:
        """The kinds in words."""
        return " or ".join(dict.fromkeys(_KINDS[kind] for kind in self.kinds))


def _has(known: Shape, shape: tuple[int, ...]) -> bool:
    return all(
        size in axis if isinstance(axis, range) else size == axis for size, axis in zip(shape, known, strict=True)
    )


def say_lengths(lengths: int | range) -> str:
    """Say a length, or a range of them."""
    return f"{lengths[0]} to {lengths[-1]}" if isinstance(lengths, range) else str(lengths)
