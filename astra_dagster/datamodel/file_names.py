"""What a file may be by its name: the products whose path templates it fits, of whatever release and reduction.

Nothing is looked up on disk, and no values are read: `Product.parse_path` does that, which knows the release.
"""

import functools
import re
from collections.abc import Iterable
from pathlib import PurePath

from astra_dagster.datamodel.keys import ONE_METRE
from astra_dagster.datamodel.special import SPECIALS
from astra_dagster.datamodel.templates import COMPRESSIONS
from astra_dagster.datamodel.tree import tree, tree_names

_TOKEN = re.compile(r"(\{[^}]+\}|(?:^|(?<=/))@\w+\|/|@\w+\|)")
_BEGINNING = re.compile(r"(?:^|/)(\{prefix\}|@apgprefix\|)?([A-Za-z]{2}[^/{@]*)[^/]*$")
_PREFIXES = ("ap", "as")
_LAYOUTS = ("v6_1_3", "v6_2_1")  # reductions of BOSS with the folders before v6_2, and with those since
# No reduction is called epoch, which is a folder beside it; and what combines all nights is called by a word.
_VALUES = {"{prefix}": "a[ps]", "{run2d}": "(?!epoch/)[^/]+", "{coadd}": "[A-Za-z][^/]*"}
_SUFFIX = f"(?:{'|'.join(map(re.escape, COMPRESSIONS))})?"


def match_name(path: PurePath, products: Iterable[str]) -> tuple[str, ...]:
    """Return those of some products whose files are called like a path.

    These are products whose folders agree as well; if there are none, those that agree in the name of the file alone,
    as that of a file which was copied to somewhere else.

    Parameters
    ----------
    products
        SDSS names of products; one that the tree lacks fits no path.
    """
    patterns = {name: _compile_patterns(name) for name in products if path.name.startswith(_list_beginnings(name))}
    text = path.as_posix()
    whole = tuple(name for name, (folders, _) in patterns.items() if any(p.search(text) for p in folders))
    return whole or tuple(name for name, (_, files) in patterns.items() if any(p.fullmatch(path.name) for p in files))


@functools.cache
def _list_templates(name: str) -> tuple[str, ...]:
    """Return the templates of a product in all releases, below the folder where they start."""
    templates = (tree(tree_name).templates for tree_name in tree_names())
    found = dict.fromkeys(
        text for texts in templates if name in texts for text in _fill_folder(name, texts[name].partition("/")[2])
    )
    # A name that begins with a value, such as {plate}.fits, could be that of any file.
    telescope = ONE_METRE if name.endswith("-1m") else "{telescope}"
    return tuple(text.replace("{telescope}", telescope) for text in found if _BEGINNING.search(text))


def _fill_folder(name: str, text: str) -> tuple[str, ...]:
    """Return a template with each folder that a product has in it, for the layouts before v6_2 and since."""
    folder = SPECIALS["sptypefolder"].function
    filled = (text.replace("@sptypefolder|", folder({"run2d": each}, name)) for each in _LAYOUTS)
    return tuple(dict.fromkeys(each.replace("//", "/") for each in filled))


@functools.cache
def _list_beginnings(name: str) -> tuple[str, ...]:
    """Return how the names of a product's files begin; most products are ruled out by that, and need no patterns."""
    found = [match for text in _list_templates(name) if (match := _BEGINNING.search(text))]
    return tuple(dict.fromkeys(start + match[2] for match in found for start in (_PREFIXES if match[1] else ("",))))


@functools.cache
def _compile_patterns(name: str) -> tuple[tuple[re.Pattern[str], ...], tuple[re.Pattern[str], ...]]:
    """Return patterns of a product's paths, below the folder where its templates start, and of the file names."""
    templates = _list_templates(name)
    names = dict.fromkeys(text.rpartition("/")[2] for text in templates)
    return (
        tuple(re.compile(f"(?:^|/){_to_pattern(text)}$") for text in templates),
        tuple(re.compile(_to_pattern(text)) for text in names),
    )


def _to_pattern(text: str) -> str:
    parts = enumerate(_TOKEN.split(text))
    return "".join(_match_part(part) if i % 2 else re.escape(part) for i, part in parts) + _SUFFIX


def _match_part(part: str) -> str:
    """Return the pattern of a value, or of what a special function of the tree writes, which may be no folder."""
    if part.startswith("{"):
        return _VALUES.get(part, "[^/]+")
    special = SPECIALS.get(part.strip("@|/"))
    pattern = re.sub(r"\(\?P<\w+>", "(?:", special.pattern) if special else "[^/]*"
    if not part.endswith("/"):
        return pattern
    return f"(?:{pattern}/)?" if re.fullmatch(pattern, "") else f"{pattern}/"
