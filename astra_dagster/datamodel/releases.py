"""Releases: which tree configuration each uses, and the reduction versions that it fixes.

The table below holds the versions of the public releases. A working area has several reductions side by side, so
that each gets a release of its own in the configuration file::

    [releases.APOGEE-r13]
    tree = "DR17"
    apred = "r13"

Any key of a path template can be fixed this way.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from astra_dagster import settings
from astra_dagster.configuration import Configuration
from astra_dagster.datamodel.compilation import compile_template
from astra_dagster.datamodel.templates import Template
from astra_dagster.datamodel.tree import tree, tree_names
from astra_dagster.errors import UnknownProductError, UnknownReleaseError, nearest

VERSION_KEYS = ("apred", "apstar", "aspcap", "results", "v_astra")
"""SDSS keys that follow from the release. From DR18 on, ``run2d`` does too."""

_VERSIONS: dict[str, dict[str, str]] = {
    "DR10": {"apred": "r3", "apstar": "s3", "aspcap": "a3", "results": "v304"},
    "DR12": {"apred": "r5", "apstar": "stars", "aspcap": "l25_6d", "results": "v603"},
    "DR13": {"apred": "r6", "apstar": "stars", "aspcap": "l30e", "results": "l30e.2"},
    "DR14": {"apred": "r8", "apstar": "stars", "aspcap": "l31c", "results": "l31c.2"},
    "DR15": {"apred": "r8", "apstar": "stars", "aspcap": "l31c", "results": "l31c.2"},
    "DR16": {"apred": "r12", "apstar": "stars", "aspcap": "l33", "results": "l33"},
    "DR17": {"apred": "dr17", "apstar": "stars", "aspcap": "synspec_rev1", "results": "synspec_rev1"},
    "DR18": {"run2d": "v6_0_4"},
    "DR19": {"apred": "1.3", "run2d": "v6_1_3", "v_astra": "0.6.0"},
    "DR20": {"apred": "1.3", "run2d": "v6_2_1", "v_astra": "0.8.1"},
    "sdsswork": {"apred": "daily", "run2d": "master", "v_astra": "0.8.1"},
}


@dataclass(frozen=True)
class Release:
    """A data release or working area.

    Attributes
    ----------
    name
        First part of a partition key.
    tree
        Name of the tree configuration that holds its path templates.
    versions
        Pairs of SDSS key and the value to which the release fixes it; None where it has no default for the key.
    own
        The keys to which a release of the configuration file gives another value than the tree's own release.
    """

    name: str
    tree: str
    versions: tuple[tuple[str, str | None], ...]
    own: frozenset[str] | None = None

    @property
    def products(self) -> tuple[str, ...]:
        """SDSS names of the products that the release has a template for."""
        return tuple(name for name, text in tree(self.tree).templates.items() if self._serves(text))

    def _serves(self, template: str) -> bool:
        """Whether a path template belongs to this release. One of the configuration file has only those it changes."""
        return self.own is None or not self.own.isdisjoint(re.findall(r"\{(\w+)", template))

    def template(self, product: str) -> Template:
        """Return the compiled path template of a product, by its SDSS name.

        Raises
        ------
        UnknownProductError
            If the release has no such product.
        UnresolvableTemplateError
            If no path can be formed from the tree's template.
        ConfigurationError
            If the release lacks a version that the template needs.
        """
        return _compile(self, product)


@functools.cache
def _compile(release: Release, product: str) -> Template:
    source = tree(release.tree)
    if product not in source.templates:
        hint = _nearest_product(product, release.tree)
        raise UnknownProductError(f"{release.name} has no product {product!r}", hint=hint)
    if not release._serves(source.templates[product]):
        raise UnknownProductError(
            f"{release.name} has no {product} of its own", hint=f"it is the same file as in {release.tree}"
        )
    return compile_template(source, product, dict(release.versions), release.name)


@functools.lru_cache(maxsize=1024)
def _nearest_product(product: str, tree_name: str) -> str:
    """Compared with hundreds of names, and asked again and again by whoever goes over all releases."""
    return nearest(product, tree(tree_name).templates)


def version_keys(tree_name: str) -> tuple[str, ...]:
    """Return the SDSS keys that a release of this tree configuration fixes."""
    before_dr18 = re.fullmatch(r"DR([7-9]|1[0-7])", tree_name)
    return VERSION_KEYS if before_dr18 else (*VERSION_KEYS, "run2d")


def releases() -> Mapping[str, Release]:
    """Return all releases by name: those of the SDSS tree, then those of the configuration file."""
    return _make_releases(settings.config())


def release(name: str) -> Release:
    """Return the release of that name, in upper or lower case.

    Raises
    ------
    UnknownReleaseError
        If there is none; the message lists similar names.
    """
    known = releases()
    try:
        return known[name] if name in known else known[_index_by_folded_name(tuple(known))[name.casefold()]]
    except (KeyError, TypeError, AttributeError):
        raise UnknownReleaseError(f"no release {str(name)[:80]!r}", hint=nearest(name, known)) from None


@functools.lru_cache(maxsize=8)
def _index_by_folded_name(names: tuple[str, ...]) -> Mapping[str, str]:
    return {name.casefold(): name for name in reversed(names)}


@functools.lru_cache(maxsize=8)
def _make_releases(configuration: Configuration) -> Mapping[str, Release]:
    known: dict[str, Release] = {}
    for name in tree_names():
        defaults = _VERSIONS.get(name, {})
        known[name] = Release(name, name, tuple((k, defaults.get(k)) for k in version_keys(name)))
    built_in = dict(known)
    for name, table in configuration.releases.items():
        texts = {key: str(value) for key, value in sorted(table.items())}
        known[name] = _make_release(name, texts, known, built_in)
    return MappingProxyType(known)


def _make_release(
    name: str, table: dict[str, str], known: Mapping[str, Release], built_in: Mapping[str, Release]
) -> Release:
    where = f"[releases.{name}]"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name) or ".." in name:
        raise settings.config_error(f"{where}: a release's name is letters, digits and _ . -")
    if name in known:
        raise settings.config_error(f"{where}: there is a release of this name already")
    if "tree" not in table:
        raise settings.config_error(f"{where}: tree is missing", hint='tree = "DR17", for example')
    base = table.pop("tree")
    base = _index_by_folded_name(tuple(built_in)).get(base.casefold(), base)
    if base not in built_in:
        raise settings.config_error(f"{where}: tree must name a release of the SDSS tree", hint=nearest(base, built_in))
    keys = {key for text in tree(base).templates.values() for key in re.findall(r"\{(\w+)", text)}
    for key, value in table.items():
        if key not in keys:
            raise settings.config_error(f"{where}: no template of {base} has a key {key!r}", hint=nearest(key, keys))
        if not re.fullmatch(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]*", value) or ".." in value:
            raise settings.config_error(f"{where}: {key} cannot be {value!r}")
    versions = {**dict(built_in[base].versions), **table}
    built_in_versions = dict(built_in[base].versions)
    own = frozenset(key for key, value in table.items() if built_in_versions.get(key) != value)
    made = Release(name, base, tuple(versions.items()), own)
    for other in known.values():
        if (other.tree, dict(other.versions)) == (base, versions):
            raise settings.config_error(
                f"{where} is {other.name} under another name", hint="a file has exactly one key"
            )
    return made
