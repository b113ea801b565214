"""Our readers as loaders in the registry of specutils.

Importing this module imports specutils, which takes more than a second, and registers the loaders; no other module
registers any. ``Spectrum.read(path)`` and ``SpectrumList.read(path)`` then read every file that we know with our
readers: the loader "astra" takes the files of spectra that our own tasks write, and those that are recognised as of a
product, with a higher priority than the loaders of specutils. Other files are read as before, and so are all with the
name of a loader of specutils. ``Spectrum.read(path, format="astra apVisit")`` says which product a file is.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import specutils
from astropy.io import registry
from specutils import Spectrum, SpectrumList
from specutils.io.registers import data_loader

from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.readers import added_readers, read_all, read_spectra, recognise

PRODUCTS = ("apVisit", "apStar", "aspcapStar", "spec", "mwmStar", "mwmVisit")
"""Products that have a loader; its name is "astra" and the name of the product. So have those whose reader was
registered before this module was imported."""

OWN = "astra"
"""Name of the loader of all files that we know."""

PRIORITY = 100
"""Priority of the loader "astra". Loaders of specutils have up to 20, and several of them may take the same file."""


def _find_path(source: object) -> Path:
    """Return the path of what specutils passes: a path, or the file that it opened to find its format."""
    opened = getattr(source, "_fp", source)  # the file below a BZ2File, which has no name of its own before Python 3.13
    name = source if isinstance(source, (str, os.PathLike)) else getattr(opened, "name", None)
    if not isinstance(name, (str, os.PathLike)):
        raise TypeError(f"a path is expected, not {type(source).__name__}")
    return Path(name)


def _register(
    label: str,
    read: Callable[..., SpectrumBatch],
    read_every: Callable[..., list[SpectrumBatch]],
    identify: Callable[..., bool],
    priority: int,
) -> None:
    """Add a loader of a file's spectra as one `Spectrum`, and one of a list of all of them.

    That of one is registered for specutils' old name of the class as well, so that its priority counts there too. It is
    not to be identified there, as the class would hide what other loaders identify for `Spectrum`.
    """

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
            ``instrument="BOSS"`` or ``"APOGEE"``, without which those of both are loaded.
        """
        batches = read_every(_find_path(source), **options)
        return SpectrumList([batch.to_spectrum(row) for batch in batches for row in range(len(batch))])

    # `force` is for notebooks that reload modules: a second registration is an error otherwise.
    add = partial(data_loader, label, identifier=identify, priority=priority, force=True)
    add(dtype=Spectrum, autogenerate_spectrumlist=False)(load)
    add(dtype=SpectrumList)(load_list)
    if old := getattr(specutils, "Spectrum1D", None):
        registry.register_reader(label, old, load, priority=priority, force=True)


def _by_name_only(*args: object, **kwargs: object) -> bool:
    return False


def _is_ours(origin: str, path: str | None, opened: object, *args: object, **kwargs: object) -> bool:
    """Whether we know a file; False if an error is raised, as for every identifier of specutils."""
    if origin != "read":
        return False
    from astra_dagster.spectra.output import is_output

    found = _find_path(opened if path is None else path)
    return is_output(found) or recognise(found).is_known


def _read_ours(path: Path, **options: Any) -> SpectrumBatch:
    from astra_dagster.spectra.output import is_output, read_output

    return read_output(path, **options) if is_output(path) else read_spectra(path, **options)


def _read_all_of_ours(path: Path, **options: Any) -> list[SpectrumBatch]:
    from astra_dagster.spectra.output import is_output, read_output

    return [read_output(path, **options)] if is_output(path) else read_all(path, **options)


for _product in (*PRODUCTS, *added_readers()):
    _read, _read_all = partial(read_spectra, product=_product), partial(read_all, product=_product)
    _register(f"{OWN} {_product}", _read, _read_all, _by_name_only, priority=0)
_register(OWN, _read_ours, _read_all_of_ours, _is_ours, PRIORITY)
