"""Arrays of any FITS file, whatever their shapes and types: for tests of how they are read."""

from collections.abc import Sequence

from astra_dagster.arrays import AnyArray
from astra_dagster.fits.model import Model
from astra_dagster.fits.reader import LARGEST, FitsFile

ALL = "fiu"


def read_image(file: FitsFile, index: int, expected: str = "", kinds: str = ALL) -> AnyArray:
    """Image of the shape that its header says."""
    return file.image(index, expected, Model(kinds, (file.hdu(index, expected).shape,)))


def read_table(
    file: FitsFile, index: int, names: Sequence[str], expected: str = "", optional: Sequence[str] = ()
) -> dict[str, AnyArray]:
    """Columns of the types and shapes that their header says."""
    known = file.columns(index, expected)
    models = {name: Model("fciubUV", (column.dtype.shape,)) for name, column in known.items()}
    return file.table(
        index,
        {name: models.get(name, Model("", ())) for name in names},
        expected,
        rows=range(LARGEST),
        width=LARGEST,
        optional={name: models[name] for name in optional if name in models},
    )
