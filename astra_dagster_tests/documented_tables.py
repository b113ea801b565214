"""Tables of the documentation that are made from the code: ``python -m astra_dagster_tests.documented_tables``.

That writes them anew into the pages, between their marks; a test compares.
"""

import ast
import inspect
import itertools
import re
from collections.abc import Callable, Iterator

from astra_dagster.analysis import quality
from astra_dagster.checks import output_checks as checking_outputs
from astra_dagster.checks import reductions
from astra_dagster.checks import table_checks as checking_tables
from astra_dagster.datamodel.corrections import CORRECTIONS
from astra_dagster.datamodel.keys import ABSENT
from astra_dagster.datamodel.products import SEED_PRODUCTS, DataID, Product, product
from astra_dagster.datamodel.releases import releases
from astra_dagster.datamodel.tree import tree_names
from astra_dagster.errors import AstraError, ConfigurationError
from astra_dagster.spectra import readers
from astra_dagster.tasks import registry
from astra_dagster_tests.datamodel.real_names import real_names
from astra_dagster_tests.documented import pages

EXAMPLES = {
    "apVisit": {"telescope": "apo25m", "field": "120+12", "plate": 5226, "mjd": 56000, "fibre": 1},
    "apStar": {"telescope": "apo25m", "field": "120+12", "healpix": 1013, "obj": "2M00012723+6258059"},
    "spec": {"run2d": "v5_13_2", "plate": 7027, "mjd": 56448, "fibre": 1},
}
OLDER = {
    "apStar": {**EXAMPLES["apStar"], "field": 4264},
    "spec": {"run2d": "26", "plate": 266, "mjd": 51602, "fibre": 31},
}
"""Of releases in which a field is its number, or that have no spectra of BOSS."""

MEANINGS = {
    "telescope": "`apo25m`, `lco25m` or `apo1m`",
    "field": "name of the field: `120+12`; of apStar files before DR16 the number `LOCATION_ID`",
    "plate": "a number; in keys of `spec` with four digits at least: `0266`",
    "mjd": "five digits",
    "fibre": "a number with leading zeros, as in the file name: 1 to 300 with three digits in APOGEE, else four digits",
    "healpix": "a number",
    "obj": "name of the star: `2M00012723+6258059`",
    "run2d": "version of the reduction: `v5_13_2`, or `26`, `103` and `104` of the SDSS spectrographs",
}


def keys() -> Iterator[str]:
    """Grammar of the keys of the seed products in each release."""
    for name in SEED_PRODUCTS:
        item = product(name)
        yield f"### {name}"
        yield f"\nThe source asset is `{item.asset_name}`, the parts of a key are `{item.key_order}`.\n"
        yield "| release | key | the file of this key |"
        yield "|---|---|---|"
        for each in item.releases:
            try:
                data_id = _example(item, each)
            except ConfigurationError:
                missing = [key for key, value in releases()[each].versions if value is None]
                needed = f"`{missing[0]}`" if missing else "a version"
                yield f"| {each} | | needs {needed}: a release of your own, `[releases.NAME]` |"
            except AstraError as error:
                yield f"| {each} | | {error.message.removeprefix(f'{name} in {each}: ')} |"
            else:
                yield f"| {each} | `{data_id.key}` | `{data_id.relative_path}` |"
        yield ""


def _example(item: Product, release: str) -> DataID:
    template = item.template(release)
    named = {key.name for key in template.keys.values()}
    before = {"apStar": "DR10 DR11 DR12 DR13 DR14 DR15", "spec": "DR8 DR9"}.get(item.name, "").split()
    values = OLDER[item.name] if release in before else EXAMPLES[item.name]
    return item.data_id(release, **{name: value for name, value in values.items() if name in named})


def parts() -> Iterator[str]:
    """What the parts of these keys may be."""
    yield "| part | SDSS calls it | what it may be |"
    yield "|---|---|---|"
    called: dict[str, dict[str, None]] = {}
    for name in SEED_PRODUCTS:
        item = product(name)
        called.update((part, called.get(part, {})) for part in item.parts)
        for each in item.releases:
            try:
                found = item.template(each).keys
            except AstraError:
                continue
            for key in found.values():
                called[key.name][key.sdss_name] = None
    for part, names in called.items():
        yield f"| `{part}` | {', '.join(f'`{name}`' for name in names)} | {MEANINGS[part]} |"
    yield f"\nWhere a release lacks a part, it is `{ABSENT}`."


def others() -> Iterator[str]:
    """Products with a reader for which `discover` looks only if it is told."""
    yield "| product | source asset | key |"
    yield "|---|---|---|"
    for name in readers.READERS:
        if name not in SEED_PRODUCTS:
            item = product(name)
            yield f"| `{name}` | `{item.asset_name}` | `{item.key_order}` |"


def names() -> Iterator[str]:
    """How sure the names of files are, by release and product."""
    found: dict[tuple[str, str], set[str]] = {}
    for name in real_names():
        found.setdefault((name.tree, name.product), set()).add(name.release)
    yield f"| release | {' | '.join(f'`{name}`' for name in readers.READERS)} |"
    yield "|---|" + "---|" * len(readers.READERS)
    for each in tree_names():
        has = [each in product(name).releases for name in readers.READERS]
        if any(has):
            pairs = zip(has, readers.READERS, strict=True)
            cells = (_say_how_sure(found, each, name) if there else "" for there, name in pairs)
            yield f"| {each} | {' | '.join(cells)} |"


def _say_how_sure(found: dict[tuple[str, str], set[str]], release: str, name: str) -> str:
    names = found.get((release, name), set())
    if name in CORRECTIONS.get(release, {}):
        return "corrected" if names else "corrected, no name found"
    if not names:
        return "no name found"
    return "as in the tree" if release in names else "as in the tree, of another reduction"


def support() -> Iterator[str]:
    """What can be done with the files of each product with a reader, in each release that has the product."""
    tasks = {(name.rpartition("_")[2], registry.find_task(name).domain.name): name for name in registry.tasks()}
    yield "| product | release | key | discover | read | S/N | continuum | verified on |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, reader in readers.READERS.items():
        item = product(name)
        made = [f"`{task}`" if (task := tasks.get((kind, name))) else "no" for kind in ("snr", "continuum")]
        rows = [(each, *_say_found(item, each), _say_verified(reader.verified, each)) for each in item.releases]
        for cells, alike in itertools.groupby(rows, key=lambda row: row[1:]):
            key, found, verified = cells
            can = ["yes", *made] if key else ["", "", ""]
            names = [row[0] for row in alike]
            which = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
            yield f"| `{name}` | {which} | {key} | {found} | {' | '.join(can)} | {verified if key else ''} |"


def _say_found(item: Product, release: str) -> tuple[str, str]:
    """Parts of a key in a release, and how files are discovered; no parts where the tree has no path."""
    try:
        named = {key.name for key in item.template(release).keys.values()}
    except ConfigurationError as error:
        needed = error.message.partition(" needs ")[2].partition(",")[0]
        return f"`{item.key_order}`", f"needs `{needed}`, in a release of your own"
    except AstraError as error:
        return "", f"no: {error.message.partition(': ')[2]}"
    parts = (part if part in named else ABSENT for part in item.parts)
    how = "yes" if item.name in SEED_PRODUCTS else f"`--product {item.name}`"
    return f"`{'/'.join(('release', *parts))}`", how


def _say_verified(verified: str, release: str) -> str:
    """On what a reader was verified, for one release; what was verified on no real file names a document."""
    if not verified.startswith("real files"):
        return verified
    return "real files" if release in re.findall(r"DR\d+", verified) else f"{verified} alone"


def checks() -> Iterator[str]:
    """Asset checks, and which tasks of the package have them."""
    yield "| check | of | what it looks for |"
    yield "|---|---|---|"
    tasks = [registry.find_task(name) for name in registry.tasks()]
    for suffix, found in (("", checking_outputs.CHECKS), ("_table", (*checking_tables.CHECKS, reductions.CHECK))):
        for check in found:
            of = [f"`{task.name}{suffix}`" for task in tasks if check.applies(task)]
            whose = f"every {'table' if suffix else 'task'}" if len(of) == len(tasks) else ", ".join(of)
            yield f"| `{check.name}` | {whose} | {check.description} |"


def flags() -> Iterator[str]:
    """Flags of a continuum, with the texts that stand below them in the code."""
    yield "| flag | value | what it says |"
    yield "|---|---|---|"
    (body,) = (
        node.body for node in ast.parse(inspect.getsource(quality.ContinuumFlag)).body if isinstance(node, ast.ClassDef)
    )
    for node, text in itertools.pairwise(body):
        if isinstance(node, ast.Assign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            name = ast.unparse(node.targets[0])
            yield f"| `{name}` | {quality.ContinuumFlag[name].value} | {text.value.value} |"


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "keys": keys,
    "parts": parts,
    "others": others,
    "names": names,
    "support": support,
    "checks": checks,
    "flags": flags,
}


def renewed(text: str) -> str:
    """Text of a page with its tables as they should be."""
    for name, table in TABLES.items():
        begin, end = f"<!-- begin: {name} -->\n", f"<!-- end: {name} -->\n"
        found = re.search(f"{re.escape(begin)}(.*?){re.escape(end)}", text, re.DOTALL)
        if found is not None:
            made = "\n".join(table()).strip("\n")
            text = text.replace(found[0], f"{begin}\n{made}\n\n{end}")
    return text


if __name__ == "__main__":
    for page in pages():
        page.write_text(renewed(page.read_text()))
