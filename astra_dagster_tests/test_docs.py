"""The documentation is built without a warning, and says what the code says."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

import astra_dagster
from astra_dagster import settings
from astra_dagster.cli import main
from astra_dagster.configuration import Configuration, Database, Watch
from astra_dagster.tasks import registry
from astra_dagster_tests import documented_tables
from astra_dagster_tests.documented import DOCS, ROOT, blocks_of, pages

PACKAGE = ROOT / "astra_dagster"
CONFIGURATION = (DOCS / "reference" / "configuration.md").read_text()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation as a web site, built with warnings as errors and no way to the network."""
    pytest.importorskip("mkdocs", reason="MkDocs is not installed: pip install 'astra-dagster[docs]'")
    folder = tmp_path_factory.mktemp("site")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    command += ["--config-file", str(DOCS / "mkdocs" / "mkdocs.yml"), "--site-dir", str(folder)]
    environment = {**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return folder


def test_it_is_built_without_a_warning(site: Path) -> None:
    assert {path.relative_to(site).with_suffix(".md") for path in site.rglob("*.html")} - {Path("404.md")} == {
        page.relative_to(DOCS) for page in pages()
    }


def test_a_reader_fetches_nothing_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="?https?:', path.read_text()) == [], path


def test_every_command_is_described(site: Path) -> None:
    text = (site / "reference" / "command-line.html").read_text()
    for name, command in main.commands.items():
        assert f">astra-dagster {name}<" in text
        for option in (text for item in command.params for text in item.opts if text.startswith("--")):
            assert option in text
    assert "Sentinel" not in text


def test_everything_public_is_described(site: Path) -> None:
    text = (site / "reference" / "api.html").read_text()
    products = {"ap_visit", "ap_star", "spec"}
    for name in set(astra_dagster.__all__) - products - {"__version__"}:
        assert re.search(rf'id="astra_dagster\.[\w.]+\.{name}"', text), name
    for name in registry.tasks():
        assert f"<code>{name}</code>" in text, name


def test_tables_are_those_of_the_code() -> None:
    texts = [page.read_text() for page in pages()]
    for text in texts:
        assert text == documented_tables.renewed(text), "python -m astra_dagster_tests.documented_tables"
    for name in documented_tables.TABLES:
        assert sum(f"<!-- begin: {name} -->" in text for text in texts) == 1, name


def test_every_environment_variable_is_described() -> None:
    text = CONFIGURATION.partition("## Environment variables")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == variables()


def variables() -> set[str]:
    """Environment variables of which the code speaks, and that are not the system's own."""
    texts = {
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named = {text for text in texts if re.fullmatch(r"(?:ASTRA|DAGSTER|SAS|TREE)_[A-Z_]+|NETRC", text)}
    assert {"SAS_BASE_DIR", "NETRC"} <= named
    return named


def test_every_message_that_is_explained_is_one_of_ours() -> None:
    constants = [
        node.value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    seen = re.findall(r"^\| ([^|]+) \|", (DOCS / "how-to" / "troubleshooting.md").read_text(), re.MULTILINE)
    messages = [message for cell in seen for message in re.findall("`([^`]+)`", cell)]
    assert len(messages) > 20
    for message in messages:
        assert message == "database is locked" or any(message in text for text in constants), message


def test_every_key_of_the_configuration_is_described() -> None:
    text = CONFIGURATION.partition("## astra.toml")[2].partition("\n## ")[0]
    top, _, below = text.partition("### Releases")
    releases, _, below = below.partition("### Database")
    database, _, watching = below.partition("### Watching")
    assert rows(top) == names(Configuration)
    assert rows(releases) >= {"tree"}
    assert rows(database) == names(Database)
    assert rows(watching) == names(Watch)
    for key, default in re.findall(r"^\| `(\w+)` \|.*\| `(.+)` \|$", watching, re.MULTILINE):
        assert tomllib.loads(f"x = {default}")["x"] == Watch.__dataclass_fields__[key].default, key


def names(model: type[Configuration | Database | Watch]) -> set[str]:
    return {item.name for item in fields(model)}


def rows(table: str) -> set[str]:
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_every_configuration_that_is_shown_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each `astra.toml` is accepted, and all keys stand in the one that shows all."""
    shown = [block for page in pages() for block in blocks_of(page.read_text()) if block.language == "toml"]
    known = rows(CONFIGURATION.partition("## astra.toml")[2].partition("###")[0])
    assert len(shown) > 5
    found = [tomllib.loads(block.text) for block in shown]
    path = tmp_path / "astra.toml"
    monkeypatch.setenv("ASTRA_CONFIG", str(path))
    for number, (block, document) in enumerate(zip(shown, found, strict=True)):
        path.write_text(block.text)
        os.utime(path, ns=(number, number))
        settings.config()
        for name in document.get("watch", {}):
            settings.watch(name)
    assert any(set(document) == known and set(document["watch"]["ap_visit"]) == names(Watch) for document in found)


def test_every_extra_that_is_named_is_there() -> None:
    setup = (ROOT / "setup.cfg").read_text()
    named = {extra for page in [ROOT / "README.md", *pages()] for extra in re.findall(r"\[(\w+)\]\"", page.read_text())}
    assert {"dask", "docs", "postgres"} <= named
    for extra in named:
        assert re.search(rf"^{extra} =$", setup, re.MULTILINE), extra
