"""Tell whether a FITS file was cut short, by comparing its length with its own headers."""

from pathlib import Path

from astra_dagster.errors import CutShortError, SpectrumFileError
from astra_dagster.fits.reader import FitsFile


def is_cut_short(path: Path) -> bool:
    """Whether a FITS file ends before the end that its own headers announce; False for a file that is not FITS.

    The padding at the end of an HDU belongs to it. A file that ends exactly between two HDUs cannot be recognised.
    Compressed files are not unpacked.

    Raises
    ------
    InputMissingError
        If there is no such file.
    """
    try:
        with FitsFile(path, unpacked=False):
            return False
    except CutShortError:
        return True
    except SpectrumFileError:
        return False
