"""Data IDs for every template of a release, and what sdss_access answers for them.

As a command it prints the numbers: ``python -m astra_dagster_tests.datamodel.agreement``.
"""

import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from astra_dagster import DataID, product, release
from astra_dagster.datamodel.keys import Key
from astra_dagster.datamodel.tree import tree, tree_names
from astra_dagster.errors import AstraError, ConfigurationError, InvalidKeyError, UnresolvableTemplateError
from astra_dagster.spectra.readers import READERS

RELEASES = ("DR13", "DR16", "DR17", "DR19", "DR20", "sdsswork")
ROOT = "/nowhere/sas"

CHOICES = {
    "telescope": ("apo25m", "lco25m", "apo1m"),
    "instrument": ("apogee-n", "apogee-s"),
    "prefix": ("ap", "as"),
    "filter": "ugriz",
    "camcol": "123456",
    "camrow": "0123456789",
    "br": "br",
    "rc": "rc",
    "kind": "cdmx",
    "run2d": ("26", "104", "v5_13_2"),
    "dr": ("DR10", "dr8"),
    "component": ("A", "Bb", "Ab2"),
    "obs": ("apo", "lco"),
    "fieldid": ("15073", "rm_xmm_lss", "7", "1234567", "0"),
    "ftype": ("fits", "parquet"),
}

VERSIONS = {"apred": "x1", "apstar": "stars", "aspcap": "x2", "results": "x3", "run2d": "v6_1_3", "v_astra": "0.6.0"}
"""Versions for trees that have no default."""

PEER = """
import json, os, sys
root, asked, answered = sys.argv[1:]
os.environ["SAS_BASE_DIR"] = root
from sdss_access.path import Path
for release, questions in json.load(open(asked)).items():
    if os.fork():
        os.wait()
        continue
    path = Path(release=release)
    found = []
    for name, values in questions:
        try:
            found.append(path.full(name, **values))
        except Exception as error:
            found.append(f"!{type(error).__name__}: {error}")
    with open(f"{answered}-{release}", "w") as stream:
        json.dump(found, stream)
    os._exit(0)
"""


def some_value(key: Key, rng: random.Random) -> str | int:
    """A value that a key may have; letters and digits only, so that neighbours in a file name stay apart."""
    name = key.sdss_name
    if name in CHOICES and (name not in ("telescope", "instrument") or key.apogee):
        held = [value for value in CHOICES[name] if name != "telescope" or re.fullmatch(key.pattern, value)]
        return rng.choice(held)
    if name == "mjd":
        return rng.randint(50000, 61000)
    if name in ("fiber", "fiberid"):
        return rng.randint(1, 300 if name == "fiber" else 1000)
    if key.numeric:
        return rng.randint(1 if key.optional else 0, 10 ** rng.randint(1, 11))
    return "".join(rng.choice("abcXYZ0189") for _ in range(rng.randint(1, 6)))


def some_data_id(name: str, release_name: str, rng: random.Random) -> DataID | None:
    """A data ID of a product; None if the values drawn are ambiguous in its file names."""
    values = {}
    for key in product(name).template(release_name).keys.values():
        if not (key.optional and rng.random() < 0.5):
            values[key.name] = some_value(key, rng)
    if values.get("ftype") == "parquet":
        values.pop("num", None)
    try:
        return product(name).data_id(release_name, **values)
    except InvalidKeyError:
        return None


def sdss_values(data_id: DataID) -> dict[str, str | int]:
    """What sdss_access wants to know of a data ID."""
    template = data_id.product.template(data_id.release)
    given, values = data_id.values, dict(template.versions)
    for name, key in template.keys.items():
        text = given.get(key.name)
        values[name] = "" if text is None else int(text) if key.width or key.number or name == "num" else text
    if "num" in values and values["num"] == "":
        values["num"] = 0
    if "prefix" not in values and "{prefix}" in tree(release(data_id.release).tree).templates[data_id.product.name]:
        south = values.get("telescope") == "lco25m" or values.get("instrument") == "apogee-s"
        values["prefix"] = "as" if south else "ap"
    if "run2d" in values:
        values["run1d"] = values["run2d"]
    values.setdefault("coadd", "unused")
    return values


def ask_sdss_access(questions: Mapping[str, list[tuple[str, dict]]]) -> dict[str, list[str]]:
    """Full paths from sdss_access by release, each in a process of its own: its state is global."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "questions", Path(folder) / "answers"
        asked.write_text(json.dumps(questions))
        command = [sys.executable, "-W", "ignore", "-c", PEER, ROOT, str(asked), str(answered)]
        subprocess.run(command, check=True, capture_output=True)
        return {name: json.loads(Path(f"{answered}-{name}").read_text()) for name in questions}


def unresolved(release_name: str) -> dict[str, str]:
    """Products of a release whose template leads nowhere, with the reason."""
    reasons = {}
    for name in release(release_name).products:
        try:
            product(name).template(release_name)
        except AstraError as error:
            reasons[name] = str(error)
    return reasons


def compare(release_name: str, each: int = 3) -> tuple[int, int, list[tuple[str, str, str]], list[str]]:
    """Number of templates and of data IDs compared, the differences, and products for which no value would do."""
    rng, refused, questions, ours = random.Random(release_name), [], [], []
    nowhere = unresolved(release_name)
    names = [name for name in release(release_name).products if name not in nowhere]
    for name in names:
        drawn = [made for _ in range(4 * each) if (made := some_data_id(name, release_name, rng))][:each]
        if not drawn:
            refused.append(name)
        for data_id in drawn:
            questions.append((name, sdss_values(data_id)))
            ours.append(str(data_id.path(ROOT)))
    theirs = ask_sdss_access({release_name: questions})[release_name]
    pairs = zip(questions, ours, theirs, strict=True)
    return len(names), len(ours), [(name, mine, their) for (name, _), mine, their in pairs if mine != their], refused


def write_own_releases() -> str:
    """Write releases for a configuration file, ``OWN-DR11``, that give the versions for which trees have no default."""
    lines = []
    for name in tree_names():
        used = {key for text in tree(name).templates.values() for key in re.findall(r"\{(\w+)", text)}
        lacking = [key for key, value in release(name).versions if value is None and key in used]
        if lacking:
            lines += [f'[releases.OWN-{name}]\ntree = "{name}"', *(f'{key} = "{VERSIONS[key]}"' for key in lacking)]
    return "\n".join(lines)


Pairs = set[tuple[str, str]]
"""Pairs of tree and product."""


def draw_readable(each: int) -> tuple[dict[tuple[str, str], list[DataID]], Pairs]:
    """Data IDs of all products with a reader, by tree and product, and those whose template leads nowhere.

    There must be releases as `write_own_releases` writes them.
    """
    drawn: dict[tuple[str, str], list[DataID]] = {}
    nowhere: Pairs = set()
    for name, tree_name in ((item, found) for item in READERS for found in product(item).releases):
        rng = random.Random(f"{tree_name} {name}")
        made = release(tree_name)
        try:
            made.template(name)
        except ConfigurationError:
            made = release(f"OWN-{tree_name}")
        except UnresolvableTemplateError:
            nowhere.add((tree_name, name))
            continue
        found = (some_data_id(name, made.name, rng) for _ in range(4 * each))
        drawn[tree_name, name] = [data_id for data_id in found if data_id][:each]
    return drawn, nowhere


def compare_readers(each: int = 8) -> tuple[Pairs, Pairs, Pairs]:
    """Compare all products with a reader, in every tree that has them; those that differ, and those that lead nowhere.

    There must be releases as `write_own_releases` writes them.
    """
    drawn, nowhere = draw_readable(each)
    questions: dict[str, list[tuple[str, dict]]] = {}
    ours: dict[str, list[str]] = {}
    for (tree_name, name), data_ids in drawn.items():
        for data_id in data_ids:
            assert product(name).parse_key(data_id.key) == data_id
            assert product(name).parse_path(data_id.relative_path, data_id.release) == data_id
            questions.setdefault(tree_name, []).append((name, sdss_values(data_id)))
            ours.setdefault(tree_name, []).append(str(data_id.path(ROOT)))
    theirs = ask_sdss_access(questions)
    same: Pairs = set()
    different: Pairs = set()
    for tree_name, asked in questions.items():
        for (name, _), mine, their in zip(asked, ours[tree_name], theirs[tree_name], strict=True):
            (same if mine == their else different).add((tree_name, name))
    return same - different, different, nowhere


def main() -> None:
    """Print the numbers for each release."""
    print(f"{'release':10}{'templates':>10}{'resolve':>9}{'excused':>9}{'compared':>10}{'agree':>7}")
    for name in RELEASES:
        resolved, compared, different, _ = compare(name)
        excused = len(unresolved(name))
        print(f"{name:10}{resolved + excused:>10}{resolved:>9}{excused:>9}{compared:>10}{compared - len(different):>7}")


if __name__ == "__main__":
    main()
