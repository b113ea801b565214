"""Products and data IDs: what identifies a file, as a typed value, a partition key and a path.

A partition key is the release, then the keys of the product's path template in one documented order, less those
that follow from the others. One file has exactly one key.
"""

import contextlib
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from sys import intern

from astra_dagster.at_hand import Searchable
from astra_dagster.datamodel import keys as parts_of
from astra_dagster.datamodel.keys import ABSENT, MAX_KEY, our_name
from astra_dagster.datamodel.releases import Release, release, releases, version_keys
from astra_dagster.datamodel.selection import Choice, make_choice
from astra_dagster.datamodel.special import SPECIALS
from astra_dagster.datamodel.templates import COMPRESSIONS, Template, add_full
from astra_dagster.datamodel.tree import tree, tree_names
from astra_dagster.errors import (
    AstraError,
    InvalidKeyError,
    PathMismatchError,
    UnknownProductError,
    UnreachableError,
    nearest,
)
from astra_dagster.presence import is_file

Where = Mapping[str, object]
"""What is selected, by part name: see `datamodel.selection`."""

SEED_PRODUCTS = ("apVisit", "apStar", "spec")
"""Products that are source assets from the start."""

_ASSET_NAMES = {
    "specLite": "spec_lite_sdssv",
    "MASK": "mask_polygons",
    "astraStarSLAM": "astra_star_slam_ipl",
    "astraVisitSLAM": "astra_visit_slam_ipl",
    "astraAllStarAPOGEENet": "astra_all_star_apogee_net_ipl",
    "astraAllStarSLAM": "astra_all_star_slam_ipl",
}
"""Our names of products whose SDSS name differs from that of another product in case or punctuation only."""


@dataclass(frozen=True)
class Product(Searchable):
    """One SDSS data-model species.

    Attributes
    ----------
    name
        Name in the SDSS tree: ``apVisit``.
    asset_name
        Our name, also that of its source asset: ``ap_visit``.
    parts
        Names of the parts of a partition key after the release.
    releases
        Names of the tree configurations that have it.
    """

    name: str
    asset_name: str
    parts: tuple[str, ...] = field(compare=False)
    releases: tuple[str, ...] = field(compare=False)

    @property
    def key_order(self) -> str:
        """Order of the parts in a partition key: ``release/telescope/field/plate/mjd/fibre``."""
        return "/".join(("release", *self.parts))

    @property
    def product(self) -> "Product":
        """The product itself; a group of files has a `product` too."""
        return self

    def key_of(self, key: str) -> str:
        """Return the partition key to which a file belongs: its own, and for a group of files that of the group."""
        return key

    def template(self, release_name: str) -> Template:
        """Return the compiled path template of the product in a release."""
        return release(release_name).template(self.name)

    def data_id(self, release: str, **values: str | int) -> "DataID":
        """Make a data ID from values by part name, ours or that of the SDSS; numbers need no padding.

        Raises
        ------
        InvalidKeyError
            If a part is missing, unknown, or cannot be part of a file name.
        """
        found = self.template(release)
        given = parts_of.name_parts(values, self.parts)
        unknown = set(given) - set(self.parts)
        if unknown:
            raise InvalidKeyError(
                f"{self.name} has no {', '.join(sorted(unknown))}", hint=f"its parts are {self.key_order}"
            )
        return self._check_round_trip(found, {n: v for n, v in given.items() if v != ABSENT}, None)

    def parse_key(self, key: str) -> "DataID":
        """Read a data ID from a partition key, which must be in its canonical form.

        Raises
        ------
        InvalidKeyError
            If the key identifies no file of this product.
        UnknownReleaseError
            If the release is not known.
        """
        shown = repr(key if len(str(key)) <= 100 else str(key)[:97] + "...")
        if not isinstance(key, str) or len(key) > MAX_KEY:
            raise InvalidKeyError(f"a partition key of {self.name} is text of at most {MAX_KEY} characters", key=shown)
        texts = key.split("/")
        if len(texts) != len(self.parts) + 1:
            raise InvalidKeyError(
                f"{shown} has {len(texts)} parts, a key of {self.name} has {len(self.parts) + 1}",
                hint=f"its parts are {self.key_order}",
            )
        found = self.template(texts[0])
        given = {name: text for name, text in zip(self.parts, texts[1:], strict=True) if text != ABSENT}
        data_id = self._check_round_trip(found, given, shown)
        if data_id.key != key:
            raise InvalidKeyError(f"{shown} is not canonical", hint=f"write it as {data_id.key}")
        return data_id

    def parse_path(self, path: str | PurePath, release: str, root: str | PurePath | None = None) -> "DataID":
        """Read a data ID from a path, which is below `root` if that is given, else relative to SAS_BASE_DIR.

        Raises
        ------
        PathMismatchError
            If the path is not one of this product in this release.
        """
        text, top = str(path), f"{root}/"
        if root is not None and text.startswith(top):
            relative = PurePath(text[len(top) :].lstrip("/"))
        else:
            relative = PurePath(text)
            try:
                relative = relative if root is None else relative.relative_to(root)
            except ValueError as error:
                raise PathMismatchError("not below SAS_BASE_DIR", path=text) from error
        found = self.template(release)
        try:
            values, formatted = found.read(relative.as_posix())
        except InvalidKeyError as error:
            raise PathMismatchError(error.message, path=text, hint=error.hint) from error
        return self._assemble(found, values, formatted)

    def allowed(self, release: str, where: Where) -> dict[str, Choice] | None:
        """Return what `where` allows, by part name; None if no file of the release can match.

        Raises
        ------
        InvalidKeyError
            If `where` names a part that the product lacks, or a value that the part cannot have.
        """
        by_name = {key.name: key for key in self.template(release).keys.values()}
        allowed: dict[str, Choice] = {}
        for name, given in parts_of.name_parts(where, self.parts).items():
            if name not in self.parts:
                raise InvalidKeyError(f"{self.name} has no {name}", hint=f"its parts are {self.key_order}")
            if name in by_name:
                allowed[name] = make_choice(given, name, by_name[name].canonical)
        return allowed if len(allowed) == len(where) else None

    def select(self, keys: Sequence[str], releases: Sequence[str], where: Where) -> list[str]:
        """Return those of `keys` that are of one of the releases (of any, if there are none) and match `where`.

        Raises
        ------
        InvalidKeyError, UnknownReleaseError
            If no key of the product could ever be selected in this way.
        """
        names = [release(name).name for name in releases] or sorted({key.partition("/")[0] for key in keys})
        by_release: dict[str, dict[str, Choice]] = {}
        for name in names:
            try:
                allowed = self.allowed(name, where)
            except AstraError:
                if releases:
                    raise
                continue
            if allowed is not None:
                by_release[name] = allowed
        if where and not releases and not by_release and keys:
            self.allowed(keys[0].partition("/")[0], where)
        selected = []
        for key in keys:
            of, *parts = key.split("/")
            if of in by_release and len(parts) == len(self.parts):
                values = dict(zip(self.parts, parts, strict=True))
                if all(values[name] in texts for name, texts in by_release[of].items()):
                    selected.append(key)
        return selected

    def like(self, names: Sequence[str], where: Where) -> list[str]:
        """Return patterns of SQL's LIKE: a key that `select` returns matches one of them, and so may others."""
        patterns = []
        for name in names or releases():
            with contextlib.suppress(AstraError):  # `select` says what is wrong with it
                allowed = self.allowed(name, where)
                if allowed is not None:
                    texts = (allowed[part].pattern if part in allowed else "%" for part in self.parts)
                    patterns.append("/".join((release(name).name, *texts)))
        return patterns

    def _check_round_trip(self, found: Template, given: Mapping[str, str | int], shown: str | None) -> "DataID":
        """Make a data ID from values, once it is known that its path leads back to the same values."""
        values: dict[str, str] = {}
        missing = []
        try:
            for sdss_name, part in found.keys.items():
                if part.name in given:
                    values[sdss_name] = part.canonical(given[part.name])
                elif not part.optional:
                    missing.append(part.name)
        except InvalidKeyError as error:
            raise InvalidKeyError(error.message, key=shown, hint=error.hint) from None
        if missing or len(values) < len(given):
            extra = set(given) - {part.name for part in found.keys.values()}
            needed = ", ".join(missing) and f"needs {', '.join(missing)}"
            surplus = ", ".join(sorted(extra)) and f"has no {', '.join(sorted(extra))}"
            raise InvalidKeyError(
                f"{self.name} in {found.release} {' and '.join(filter(None, (needed, surplus)))}",
                key=shown,
                hint=f"its parts are {self.key_order}, with - for a part that the release lacks",
            )
        data_id = self._assemble(found, values, found.format(values))
        if found.shows(data_id.relative_path, values):
            return data_id
        try:
            back: Mapping[str, str] | None = found.read(data_id.relative_path)[0]
        except AstraError:
            back = None
        if back != values:
            like = f"write it as {self._assemble(found, back, '').key}" if back else "no file name shows these values"
            raise InvalidKeyError(f"{data_id.key!r} does not survive the way to a path and back", hint=like)
        return data_id

    def _assemble(self, found: Template, values: Mapping[str, str], path: str) -> "DataID":
        # Few texts differ among very many files, and each is kept once.
        names = found.sdss_names
        parts = tuple([intern(values.get(names.get(name, ABSENT), ABSENT)) for name in self.parts])
        return DataID(self, found.release, parts, path, found.software)


@dataclass(frozen=True, slots=True)
class DataID:
    """The parameters that identify one file. Make one with the methods of `Product`.

    Attributes
    ----------
    product, release
        Product and release of the file.
    parts
        Canonical texts, in the order of ``product.parts``; ``-`` for a part that the release lacks.
    relative_path
        Path below SAS_BASE_DIR (below PRODUCT_ROOT if `software`).
    """

    product: Product
    release: str
    parts: tuple[str, ...]
    relative_path: str = field(compare=False)
    software: bool = field(compare=False, default=False)

    @property
    def key(self) -> str:
        """Partition key."""
        return "/".join((self.release, *self.parts))

    @property
    def values(self) -> dict[str, str]:
        """Values by part name, the release first, without absent parts."""
        named = zip(self.product.parts, self.parts, strict=True)
        return {"release": self.release, **{n: t for n, t in named if t != ABSENT}}

    def path(self, root: str | PurePath) -> Path:
        """Return the path of the file below `root`, the folder that SAS_BASE_DIR names.

        Software products lie beside the mirror, as sdss_access has it by default.
        """
        return Path(self.location(root))

    def location(self, root: str | PurePath) -> str:
        """Return `path` as text, which takes a tenth of the time."""
        return f"{Path(root).parent if self.software else root}/{self.relative_path}"

    def existing_path(self, root: str | PurePath) -> Path | None:
        """Return the path of the file on disk, or of a compressed variant of it; None if there is neither.

        Raises
        ------
        UnreachableError
            If that cannot be told: permission is denied, or the disk fails or is away.
        """
        try:
            return next((candidate for candidate in self._list_candidates(self.path(root)) if is_file(candidate)), None)
        except UnreachableError as error:
            error.key = self.key
            raise

    def _list_candidates(self, path: Path) -> Iterator[Path]:
        yield path
        yield from (path.with_name(path.name + suffix) for suffix in COMPRESSIONS)
        if path.suffix in COMPRESSIONS:
            yield path.with_suffix("")
        if self.product.name == "spec" and (other := Path(add_full(path.as_posix()))) != path:
            yield other

    def matches(self, allowed: Mapping[str, Choice]) -> bool:
        """Whether each part has an allowed text."""
        values = self.values
        return all(values.get(name) in texts for name, texts in allowed.items())

    @property
    def url(self) -> str:
        """Address on the Science Archive Server; public releases have the public host."""
        if self.software:
            raise AstraError(f"{self.product.name} is a software product, not on the SAS", key=self.key)
        public = release(self.release).tree.startswith("DR")
        host = "data.sdss.org" if public else "data.sdss5.org"
        return f"https://{host}/sas/{self.relative_path}"

    def __str__(self) -> str:
        return self.key


def product(name: str) -> Product:
    """Return the product of that name: the SDSS tree's (``apVisit``) or ours (``ap_visit``).

    Raises
    ------
    UnknownProductError
        If there is none; the message lists similar names.
    """
    known = products()
    try:
        return known[name] if name in known else known[_index_by_asset_name()[name]]
    except (KeyError, TypeError):
        every = [*known, *_index_by_asset_name()]
        raise UnknownProductError(f"no product {str(name)[:80]!r}", hint=nearest(name, every)) from None


@functools.cache
def products() -> Mapping[str, Product]:
    """Return all products of the SDSS tree by SDSS name."""
    found: dict[str, list[str]] = {}
    parts: dict[str, set[str]] = {}
    for tree_name in tree_names():
        fixed = version_keys(tree_name)
        for name, text in tree(tree_name).templates.items():
            found.setdefault(name, []).append(tree_name)
            parts.setdefault(name, set()).update(our_name(key) for key in _find_free_keys(text, fixed))
    return {
        name: Product(name, _make_asset_name(name), parts_of.sort_parts(parts[name]), tuple(names))
        for name, names in found.items()
    }


def _find_free_keys(text: str, fixed: tuple[str, ...]) -> set[str]:
    """Return the SDSS keys of a template that neither the release nor another key fixes."""
    found = set(re.findall(r"\{([^}:]+)", text))
    special = {key for name in re.findall(r"@(\w+)\|", text) if name in SPECIALS for key in SPECIALS[name].keys}
    if "plateid" in found:
        special.discard("plate")
    if {"telescope", "instrument"} & found:
        found.discard("prefix")
    if "run2d" in found:
        found.discard("run1d")
    return (found | special) - set(fixed)


def _make_asset_name(name: str) -> str:
    words = re.sub(r"[^A-Za-z0-9]+", "_", name)
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", words)
    return _ASSET_NAMES.get(name, words.lower())


@functools.cache
def _index_by_asset_name() -> Mapping[str, str]:
    return {item.asset_name: item.name for item in products().values()}


__all__ = ["DataID", "Product", "Release", "product", "products", "release", "releases"]
