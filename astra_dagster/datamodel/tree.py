"""Snapshots of the SDSS tree: the path templates and folders of each tree configuration.

They are read as text from the configuration files that the `sdss-tree` distribution installs. Nothing of
`tree` or `sdss_access` is imported, so no environment variable, exception hook or warning hook changes, and
the snapshots of two releases cannot mix. What a template means is not decided here (see `templates`).
"""

import configparser
import functools
import importlib.metadata
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from astra_dagster import settings
from astra_dagster.datamodel.corrections import CORRECTIONS
from astra_dagster.errors import ConfigurationError, UnknownReleaseError, nearest

SAS = "@SAS@"
"""Stands for SAS_BASE_DIR in the values of `Tree.environment`."""


Sections = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Tree:
    """One configuration of the SDSS tree.

    Attributes
    ----------
    name
        Name as sdss_access spells it: ``DR17``, ``IPL3``, ``sdsswork``.
    templates
        Path template by product name, as the tree writes it but for those that `corrections` has.
    """

    name: str
    templates: Mapping[str, str]

    @property
    def environment(self) -> Mapping[str, str]:
        """Folder by variable name; values start with `SAS`, or with ``$PRODUCT_ROOT`` for software products."""
        return _read_environment(self.name)


def configuration_folder() -> Path:
    """Return the folder of the tree's configuration files: ``$TREE_DIR/data``, else the installed distribution's."""
    tree_dir = settings.tree_dir()
    if tree_dir is not None:
        return tree_dir / "data"
    try:
        folder = importlib.metadata.distribution("sdss-tree").locate_file("tree/data")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigurationError("the SDSS tree is not installed", hint="pip install sdss-access brings it") from error
    return Path(str(folder))


@functools.cache
def tree_names() -> tuple[str, ...]:
    """Return the names of all tree configurations, in the order DR7 ... DR20, IPL1 ..., sdsswork."""
    names = []
    for path in configuration_folder().glob("*.cfg"):
        stem = path.stem
        names.append(stem if stem == "sdsswork" else stem.upper())
    return tuple(sorted(names, key=_age))


def _age(name: str) -> tuple[str, int]:
    letters = name.rstrip("0123456789")
    return letters, int(name[len(letters) :] or 0)


@functools.cache
def tree(name: str) -> Tree:
    """Return the snapshot of the tree configuration `name`.

    Raises
    ------
    UnknownReleaseError
        If the SDSS tree has no configuration of that name.
    """
    if name not in tree_names():
        raise UnknownReleaseError(f"the SDSS tree has no release {name!r}", hint=nearest(name, tree_names()))
    sections = _merge_sections(name)
    defaults = sections[configparser.DEFAULTSECT]
    templates = {product: text for product, text in sections.get("PATHS", {}).items() if product not in defaults}
    templates |= CORRECTIONS.get(name, {})
    return Tree(name, MappingProxyType(templates))


@functools.cache
def _read_environment(name: str) -> Mapping[str, str]:
    sections = _merge_sections(name)
    config = configparser.ConfigParser()
    config.optionxform = str  # type: ignore[assignment, method-assign]
    config.read_dict({section: options for section, options in sections.items() if section != "PATHS"})
    environment: dict[str, str] = {}
    for section in config.sections():
        for option in config.options(section):
            if option not in config.defaults():
                value = config.get(section, option, vars={"FILESYSTEM": SAS})
                environment[option.upper()] = posixpath.normpath(value)
    return MappingProxyType(environment)


def _merge_sections(name: str) -> Sections:
    """Merge the sections of a configuration into those of the configurations that it is based on."""
    chain = [_read(name.lower())]
    while base := chain[-1][configparser.DEFAULTSECT].get("base"):
        chain.append(_read(base))
    merged: Sections = {}
    for sections in reversed(chain):
        for section, options in sections.items():
            merged.setdefault(section, {}).update(options)
    if "EBOSS" in merged:
        # eBOSS took over the folders of BOSS; the tree itself drops the older section.
        merged.pop("BOSS", None)
    return merged


@functools.cache
def _read(stem: str) -> Sections:
    config = configparser.ConfigParser(interpolation=None)
    config.optionxform = str  # type: ignore[assignment, method-assign]
    config.read(configuration_folder() / f"{stem}.cfg", encoding="utf-8")
    defaults = dict(config.defaults())
    own = {  # a section may give a default another value: the folder of IPL1 is called ipl-1
        section: {k: v for k, v in config.items(section) if k not in defaults or v != defaults[k]}
        for section in config.sections()
    }
    return {configparser.DEFAULTSECT: defaults, **own}
