"""Whether a file is all there, by its own account."""

from pathlib import Path

from astra_dagster.datamodel.templates import COMPRESSIONS
from astra_dagster.errors import CutShortError, SpectrumFileError
from astra_dagster.fits.reader import BLOCK, FitsFile


def is_cut_short(path: Path) -> bool:
    """Whether a FITS file ends before what its own headers announce; what is no FITS file at all does not.

    The padding at the end of an HDU belongs to it. Between two HDUs nothing tells that there should be another.
    Compressed files are not looked into.

    Raises
    ------
    InputMissingError
        If there is no such file.
    """
    if path.suffix in COMPRESSIONS:
        return False
    try:
        with FitsFile(path) as file:
            last = file.hdus()[-1]
            return last.offset + -(-last.size // BLOCK) * BLOCK > file.size
    except CutShortError:
        return True
    except SpectrumFileError:
        return False
