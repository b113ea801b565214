"""Compiled path templates of the SDSS tree: pure functions from values to a path, and from a path to values.

A template is compiled for one release by `compilation`, which fills in the versions (``apred``, ``run2d``, ...) once.
What a value may look like is said by `keys`. Nothing here touches the disk or the environment.
"""

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from astra_dagster.datamodel.keys import MAX_PART, Key
from astra_dagster.datamodel.special import LEGACY_RUN2D, SPECIALS, Special
from astra_dagster.errors import PathMismatchError

COMPRESSIONS = (".gz", ".bz2", ".fz", ".zip")
"""Suffixes of compressed variants; a file and its compressed variant are the same partition."""

AGAIN = "__"
"""Marks in `Template.segments` a group that is a further occurrence of the key whose name precedes the mark."""


@dataclass(frozen=True)
class Field:
    """A key in a template, with its format specification.

    `repad` is the number of digits to write, where it differs from that of the canonical text.
    """

    key: str
    spec: str = ""
    repad: int | None = None

    @property
    def width(self) -> int:
        """Number of digits to which this occurrence is padded."""
        padded = re.match(r"0>([0-9]+)", self.spec)
        return int(padded.group(1)) if padded else 0

    @property
    def truncates(self) -> bool:
        """Whether the path shows only the beginning of the value."""
        return "." in self.spec

    @property
    def shown(self) -> int:
        """How many characters of the value the path shows."""
        return int(self.spec.partition(".")[2]) if self.truncates else MAX_PART


Token = str | Field | Special


@dataclass(frozen=True)
class Template:
    """A compiled path template; make one with `compilation.compile_template`.

    Attributes
    ----------
    product, release
        Product and release that the template belongs to.
    keys
        The keys that a data ID must give, by SDSS name.
    versions
        The keys that the release gives.
    software
        Whether the path lies below PRODUCT_ROOT, in a software product, and not on the SAS.
    roots
        Folder where the path starts; there are two where ``run2d`` chooses between SDSS and BOSS reductions.
    segments
        Regular expressions of the folders below it and of the file name, in order, for walking along the template.
    """

    product: str
    release: str
    keys: Mapping[str, Key]
    versions: Mapping[str, str]
    software: bool
    roots: tuple[str, ...]
    segments: tuple[re.Pattern[str], ...]
    _tokens: tuple[Token, ...] = field(repr=False)
    _pattern: re.Pattern[str] = field(repr=False)

    def format(self, values: Mapping[str, str]) -> str:
        """Return the path, relative to SAS_BASE_DIR (for software products to PRODUCT_ROOT).

        Parameters
        ----------
        values
            Canonical text by SDSS key, one for each of `keys`; those of optional keys may be missing.
        """
        everything = {**self.versions, **values}
        pieces: list[str] = [self._root(everything)]
        for token in self._tokens:
            if isinstance(token, str):
                pieces.append(token)
            elif isinstance(token, Field):
                pieces.append(_write_value(token, everything[token.key]))
            else:
                pieces.append(token.function(everything, self.product))
        path = "".join(pieces)
        return re.sub("/{2,}", "/", path) if "//" in path else path

    def read(self, path: str) -> tuple[dict[str, str], str]:
        """Read a path as `format` returns it, or a compressed variant of such a path.

        Returns
        -------
        values, path
            Values by SDSS key, and the path that `format` makes of them.

        Raises
        ------
        PathMismatchError
            If `format` returns that path for no values.
        """
        for candidate in _list_variants(path):
            match = self._pattern.fullmatch(candidate)
            if match is None:
                continue
            values = {
                name: self.keys[name].canonical(text)
                for name, text in match.groupdict().items()
                if text and AGAIN not in name
            }
            formatted = self.format(values)
            if formatted in (candidate, drop_full(candidate) if self._optional_full else candidate):
                return values, formatted
        raise PathMismatchError(
            f"not a path of {self.product} in {self.release}",
            path=path,
            hint=f"such a path looks like {self.shape}",
        )

    def shows(self, path: str, values: Mapping[str, str]) -> bool:
        """Whether `read` reads these values from the path that `format` has made of them; False if it is not sure.

        It is sure where the path has each value as it is, which takes a fifth of the time.
        """
        match = self._pattern.fullmatch(path)
        if match is None:
            return False
        return {name: text for name, text in match.groupdict().items() if text and AGAIN not in name} == values

    @cached_property
    def sdss_names(self) -> dict[str, str]:
        """SDSS names of the keys, by our names."""
        return {key.name: name for name, key in self.keys.items()}

    @cached_property
    def _optional_full(self) -> bool:
        """Whether a folder ``full`` is no error: mirrors that follow the tree have it where the archive has not."""
        return SPECIALS["fullfolder"] in self._tokens

    @property
    def shape(self) -> str:
        """The template with the release's versions filled in, for people to read."""
        names = {id(special): name for name, special in SPECIALS.items()}
        pieces = [self.roots[0]]
        for token in self._tokens:
            if isinstance(token, str):
                pieces.append(token)
            elif isinstance(token, Field):
                pieces.append(f"{{{token.key}}}")
            else:
                pieces.append(f"@{names[id(token)]}|")
        return "".join(pieces)

    def _root(self, values: Mapping[str, str]) -> str:
        return self.roots[values["run2d"] not in LEGACY_RUN2D] if self.roots[1:] else self.roots[0]


def _write_value(token: Field, value: str) -> str:
    if token.truncates:
        return format(value, token.spec)
    return value if token.repad is None else str(int(value)).zfill(token.repad)


def drop_full(path: str) -> str:
    """Return a path of spectra without the folder ``full``."""
    return path.replace("/spectra/full/", "/spectra/", 1)


def add_full(path: str) -> str:
    """Return a path of spectra with the folder ``full``."""
    return drop_full(path).replace("/spectra/", "/spectra/full/", 1)


def _list_variants(path: str) -> tuple[str, ...]:
    stem, suffix = posixpath.splitext(path)
    return (path, stem) if suffix in COMPRESSIONS else (path, *(path + c for c in COMPRESSIONS))
