"""Our readers as loaders in the registry of specutils.

Importing this module imports specutils, which takes more than a second, and registers the loaders; no other module
registers any. The loaders of SDSS files are used by name only, ``Spectrum.read(path, format="astra apVisit")``: the
loaders that specutils itself chooses for these files stay the same. The loader "astra" reads the files of spectra that
our own tasks write, and specutils chooses it for them.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from specutils import Spectrum, SpectrumList
from specutils.io.registers import data_loader

from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.readers import added_readers, read_spectra

PRODUCTS = ("apVisit", "apStar", "aspcapStar", "spec", "mwmStar", "mwmVisit")
"""Products that have a loader; its name is "astra" and the name of the product. So have those whose reader was
registered before this module was imported."""

OWN = "astra"
"""Name of the loader of the files that our own tasks write."""

PRIORITY = 100
"""Priority of the loader "astra". Loaders of specutils have up to 20; one of them reads any FITS file with a table."""


def _find_path(source: object) -> Path:
    """Return the path of what specutils passes: a path, or the file that it opened to find its format."""
    name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"a path is expected, not {type(source).__name__}")
    return Path(name)


def _register(label: str, read: Callable[..., SpectrumBatch], identify: Callable[..., bool], priority: int) -> None:
    """Add a loader of a file's spectra as one `Spectrum`, and one of a list of them."""

    def load(source: object, row: int | None = None, **options: bool | str) -> Spectrum:
        """Load the spectra of a file with the reader that astra_dagster has for it.

        Parameters
        ----------
        source
            Path of the file.
        row
            Number of one of its spectra. By default all are read, with flux of shape (n, pixels), or (pixels,) for one.
        options
            Options of the reader: ``bitmask=True`` to have the file's own mask in `meta`, and for mwm files
            ``instrument="BOSS"`` or ``"APOGEE"``.
        """
        return read(_find_path(source), **options).to_spectrum(row)

    def load_list(source: object, **options: bool | str) -> SpectrumList:
        """Load each spectrum of a file with the reader that astra_dagster has for it; no row is left out.

        Parameters
        ----------
        source
            Path of the file.
        options
            Options of the reader: ``bitmask=True`` to have the file's own mask in `meta`, and for mwm files
            ``instrument="BOSS"`` or ``"APOGEE"``.
        """
        batch = read(_find_path(source), **options)
        return SpectrumList([batch.to_spectrum(row) for row in range(len(batch))])

    # `force` is for notebooks that reload modules: a second registration is an error otherwise.
    add = partial(data_loader, label, identifier=identify, priority=priority, force=True)
    add(dtype=Spectrum, autogenerate_spectrumlist=False)(load)
    add(dtype=SpectrumList)(load_list)


def _by_name_only(*args: object, **kwargs: object) -> bool:
    return False


def _is_own(origin: str, path: str | None, opened: object, *args: object, **kwargs: object) -> bool:
    """Whether a task of ours wrote a file; False if an error is raised, as for every identifier of specutils."""
    if origin != "read":
        return False
    from astra_dagster.spectra.output import is_output

    return is_output(_find_path(opened if path is None else path))


def _read_own(path: Path, **options: bool | str) -> SpectrumBatch:
    from astra_dagster.spectra.output import read_output

    return read_output(path, **options)


for _product in (*PRODUCTS, *added_readers()):
    _register(f"{OWN} {_product}", partial(read_spectra, product=_product), _by_name_only, priority=0)
_register(OWN, _read_own, _is_own, PRIORITY)
