"""What the configuration file may say is accepted; what it may not is refused, with the nearest name."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from astra_dagster import configuration, settings
from astra_dagster.configuration import Configuration, Database, Watch
from astra_dagster.datamodel.releases import releases
from astra_dagster.errors import ConfigurationError
from astra_dagster_tests.documented import DOCS, blocks_of

PAGE = (DOCS / "reference" / "configuration.md").read_text()
ALL, *_ = [tomllib.loads(block.text) for block in blocks_of(PAGE) if block.language == "toml"]
"""What the documentation shows: every key, with a value."""

TABLES = {"": Configuration, "database": Database, "watch.ap_visit": Watch}
KEYS = [(table, item.name) for table, model in TABLES.items() for item in fields(model)]


def checked(path: Path, document: dict[str, Any]) -> Configuration:
    """The document as a configuration, its watch tables read too."""
    found = configuration.read(path, document)
    for name, table in found.watch.items():
        configuration.read_watch(path, name, table)
    return found


def with_key(table: str, name: str, value: Any) -> dict[str, Any]:
    for part in [name, *reversed(table.split("."))] if table else [name]:
        value = {part: value}
    return dict(value)


def value_of(table: str, name: str) -> Any:
    found = ALL
    for part in [*table.split("."), name] if table else [name]:
        found = found[part]
    return found


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[str], str]:
    """What is said of a file, after its name and in one line."""

    def message(text: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            checked(tmp_path / "astra.toml", tomllib.loads(text))
        said = str(caught.value)
        assert said.startswith(f"{tmp_path / 'astra.toml'}: ")
        assert said.count(str(tmp_path)) == 1
        assert "\n" not in said
        return said.partition(": ")[2]

    return message


@pytest.mark.parametrize(("table", "name"), KEYS)
def test_each_documented_key_is_accepted(table: str, name: str, tmp_path: Path) -> None:
    checked(tmp_path / "astra.toml", with_key(table, name, value_of(table, name)))


@pytest.mark.parametrize(("table", "name"), KEYS)
def test_a_key_with_one_letter_changed_is_refused_and_the_name_is_the_hint(
    table: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "astra.toml"
    for i, letter in enumerate(name):
        wrong = f"{name[:i]}{'x' if letter != 'x' else 'y'}{name[i + 1 :]}"
        with pytest.raises(ConfigurationError) as caught:
            checked(path, with_key(table, wrong, value_of(table, name)))
        said = str(caught.value)
        assert said.startswith(f"{path}: "), said
        assert wrong in said
        assert not table or f"[{table}]" in said
        assert re.search(rf"did you mean [\w, ]*\b{name}\b", said), said


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('tree = "DR17"\naprad = "r13"', r"no template of DR17 has a key 'aprad'; did you mean apred\b"),
        ('trea = "DR17"\napred = "r13"', 'tree is missing; tree = "DR17", for example'),
    ],
)
def test_so_is_a_key_of_a_release(table: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "astra.toml"
    monkeypatch.setenv("ASTRA_CONFIG", str(path))
    path.write_text(f"[releases.mine]\n{table}\n")
    with pytest.raises(ConfigurationError, match=words) as caught:
        releases()
    assert str(caught.value).startswith(f"{path}: [releases.mine]: ")


MISTAKES = {
    "worker = 4": "no option 'worker'; did you mean workers?",
    'package = ["my_tasks"]': "no option 'package'; did you mean packages?",
    "[wach.ap_visit]\nrunning = true": "no table [wach]; did you mean watch?",
    "[database.more]": "no table [database.more]; nothing of a similar name is known; [database] holds nothing but url",
    "workers = 4": "workers cannot be 4; expected text",
    'packages = "my_tasks"': "packages cannot be 'my_tasks'; expected a list of names",
    "products = [5]": "products cannot hold 5; expected a list of names",
    "fetch = 1": "fetch cannot be 1; expected true or false",
    "defs = ['a']": "defs cannot be a list; expected the name",
    "releases = 5": "releases must be made of tables; expected [releases.NAME]",
    "releases.mine = 5": "releases.mine must be a table; begin it with [releases.mine]",
    "releases.mine.apred = true": "[releases.mine]: apred cannot be True; expected [releases.NAME]",
    "database = 5": "database must be a table; expected the table [database]",
    "database.url = ['sesame']": '[database]: url cannot be a list; expected "sqlite"',
    "[watch.ap_visit]\ninterval = 0": "[watch.ap_visit]: interval cannot be 0; expected a whole number of seconds",
    "[watch.ap_visit]\ninterval = 1.5": "[watch.ap_visit]: interval cannot be 1.5; expected",
    "[watch.ap_visit]\nsettle = nan": "[watch.ap_visit]: settle cannot be nan; expected a number of seconds",
    "[watch.ap_visit]\npartitions = '9'": "[watch.ap_visit]: partitions cannot be '9'; expected",
    "[watch.ap_visit]\nwhere = 5": "watch.ap_visit.where must be a table; expected parts of keys",
    "[watch.ap_visit]\nwhere = {plate = 1.5}": "[watch.ap_visit.where]: plate cannot be 1.5; expected parts of keys",
    "[watch.ap_visit.more]": "no table [watch.ap_visit.more]; ",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_names_table_and_key(text: str, refused: Callable[[str], str]) -> None:
    assert refused(text).startswith(MISTAKES[text])


def test_all_mistakes_are_told(refused: Callable[[str], str]) -> None:
    told = refused("worker = 4\nfetch = 'yes'\n[wach.spec]\n[database]\nuri = 'x'\n")
    for words in ("'worker'", "fetch cannot be 'yes'", "[wach]", "[database]: no option 'uri'"):
        assert words in told
    told = refused("[watch.spec]\ninterval = 0\npartitions = 0\n")
    assert "interval cannot be 0" in told
    assert "partitions cannot be 0" in told


@pytest.mark.parametrize(
    "text",
    [
        "workers = ''",
        "products = []",
        "[releases.mine]\ntree = 'DR17'\napred = 1.2\nrun2d = 26",
        "[database]",
        "[watch.ap_visit]\nsettle = 0",
        "[watch.ap_visit]\nsettle = 0.5",
        "[watch.ap_visit]\nwhere = {plate = [5226, '5227'], mjd = '56000..'}",
    ],
)
def test_values_that_are_accepted(text: str, tmp_path: Path) -> None:
    checked(tmp_path / "astra.toml", tomllib.loads(text))


def test_it_is_looked_at_once_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "astra.toml"
    monkeypatch.setenv("ASTRA_CONFIG", str(path))
    path.write_text('workers = "processes:2"\n')
    with settings.held_config():
        path.write_text('workers = "processes:33"\n')
        assert settings.config().workers == "processes:2"
    assert settings.config().workers == "processes:33"
    path.unlink()
    with pytest.raises(ConfigurationError), settings.held_config():
        pass


def test_a_table_of_a_watch_that_is_wrong_leaves_the_rest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "astra.toml"
    path.write_text("fetch = true\n[watch.spec]\nintervall = 5\nby_content = true\n")
    monkeypatch.setenv("ASTRA_CONFIG", str(path))
    assert settings.config().fetch
    with pytest.raises(ConfigurationError, match=r"\[watch.spec\]: no option 'intervall'; did you mean interval\?"):
        settings.watch("spec")
    assert settings.watch("spec", "by_content").by_content


NO_PYDANTIC = """
import sys
import astra_dagster, astra_dagster.cli
from astra_dagster.tasks import registry
assert astra_dagster.product("apVisit").template("DR17")
assert registry.tasks()
assert "pydantic" not in sys.modules
"""


def test_without_a_configuration_pydantic_is_not_imported() -> None:
    subprocess.run([sys.executable, "-c", NO_PYDANTIC], check=True)
