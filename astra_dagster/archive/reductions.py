"""Say which other reductions a mirror has of a product, where none of the release's own is found.

A release fixes the reduction: of DR17, apVisit files are those of the reduction dr17. A folder may hold the files of
another one, as a working area does, and then a search finds nothing although files are there. Whoever has found nothing
asks here; of each other reduction the folders are listed until there is one file.
"""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

from astra_dagster import settings
from astra_dagster.archive.discovery import Place, list_folder, starting_folders, top_folder, walk
from astra_dagster.archive.links import Links
from astra_dagster.datamodel.compilation import compile_template
from astra_dagster.datamodel.products import Product, Where
from astra_dagster.datamodel.releases import release, releases
from astra_dagster.datamodel.selection import Choice
from astra_dagster.datamodel.templates import AGAIN, Template
from astra_dagster.datamodel.tree import tree
from astra_dagster.errors import AstraError, UnreachableError

Versions = tuple[tuple[str, str], ...]
"""Pairs of SDSS key and text, sorted: ``(("apred", "r13"),)``."""


def find_reductions(product: Product, release_name: str, root: Path, where: Where | None = None) -> list[Versions]:
    """Return the reductions of a product that lie in the folders of a release, and are those of no release.

    Parameters
    ----------
    where
        Only files with these parts of a key count.

    Raises
    ------
    AstraError
        If the product has no path in this release, or `where` names a part that it lacks.
    """
    of = release(release_name)
    fixed = of.template(product.name).versions
    allowed = product.allowed(of.name, where or {})
    if not fixed or allowed is None:
        return []
    free = {key: text for key, text in of.versions if key not in fixed}
    template = compile_template(tree(of.tree), product.name, free, of.name)
    wanted = {key: allowed[part.name] for key, part in template.keys.items() if part.name in allowed}
    known = [dict(other.versions) for other in releases().values() if other.tree == of.tree]
    links = Links(root)
    found = set()
    for place in _list_reductions(template, root, set(fixed), links):
        for entry in walk([place], template, wanted, [], links):
            try:
                values, _ = template.read(Path(entry.path).relative_to(top_folder(template, root)).as_posix())
            except AstraError:
                continue
            versions = {key: values[key] for key in fixed}
            if not any(versions.items() <= other.items() for other in known):
                found.add(tuple(sorted(versions.items())))
            break
    return sorted(found)


def describe_reductions(
    product: Product, release_names: Iterable[str], root: Path, where: Where | None = None
) -> tuple[str, str]:
    """Say which other reductions of a product there are where nothing of a release was found, and what to do.

    Returns
    -------
    text, hint
        Of the first of the releases in whose folders there are any; both empty if there are none.
    """
    for name in release_names:
        try:
            found = find_reductions(product, name, root, where)
            fixed = product.template(name).versions
        except AstraError:
            continue
        if found:
            differ = [key for key in fixed if any(dict(versions)[key] != fixed[key] for versions in found)]
            texts = [" ".join(f"{key} {text}" for key, text in versions if key in differ) for versions in found]
            own = " ".join(f"{key} {fixed[key]}" for key in differ)
            last = dict(found[-1])
            hint = ", ".join([f'tree = "{release(name).tree}"', *(f'{key} = "{last[key]}"' for key in differ)])
            return (
                f"its folders have files of {' and '.join(texts)}, {name} has {own}",
                f"to use them, define a release of your own in astra.toml: [releases.MINE] {hint}",
            )
    return "", ""


def add_reductions(error: AstraError, product: Product, release_names: Iterable[str], where: Where) -> None:
    """Add to an error, after which nothing is there, which other reductions are; nothing if there is no mirror."""
    with contextlib.suppress(AstraError):
        text, hint = describe_reductions(product, release_names, settings.sas_base_dir(), where)
        if text:
            error.message, error.hint = f"{error.message}: {text}", hint


def _list_reductions(template: Template, root: Path, fixed: set[str], links: Links) -> list[Place]:
    """Return the folders that each belong to one reduction, by the names of folders."""
    named = [_shows(segment, fixed) for segment in template.segments[:-1]]
    depth = len(named) - named[::-1].index(True) if any(named) else 0
    places: list[Place] = [(str(start), 0) for start in starting_folders(template, root)]
    for _ in range(depth):
        places = [below for place in places for below in _list_below(place, template, links)]
    return places


def _shows(segment: re.Pattern[str], keys: set[str]) -> bool:
    return any(name.partition(AGAIN)[0] in keys for name in segment.groupindex)


def _list_below(place: Place, template: Template, links: Links) -> list[Place]:
    nothing: dict[str, Choice] = {}
    try:
        links.check(place[0])
        return list_folder(*place, template, nothing, [])[0]
    except (OSError, UnreachableError):  # most releases have no folder here
        return []
