"""Addresses on the SAS, compared with sdss_access for every release of the tree."""

import json
import random
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

from astra_dagster import product, release, settings
from astra_dagster.archive.sas import Archive
from astra_dagster.datamodel.corrections import CORRECTIONS
from astra_dagster.datamodel.tree import tree_names
from astra_dagster.errors import ConfigurationError
from astra_dagster_tests.archive.faults import ONE, SECRET
from astra_dagster_tests.datamodel.agreement import ROOT, sdss_values, some_data_id, unresolved

PEER = """
import json, os, sys
name, root, questions, answers = sys.argv[1:]
os.environ["SAS_BASE_DIR"] = root
from sdss_access.path import Path
path = Path(release=name)
found = [path.url(item, **values) for item, values in json.load(open(questions))]
json.dump(found, open(answers, "w"))
"""


def compare(name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Our addresses of one file of each product of a release, and those of sdss_access.

    Those of products whose templates are corrected are left out: sdss_access has them as the tree has.
    """
    rng, archive, questions, ours = random.Random(name), Archive(Path(ROOT)), [], []
    refused, resolved, corrected = unresolved(name), 0, CORRECTIONS.get(release(name).tree, {})
    for item in release(name).products:
        if item in refused or item in corrected or product(item).template(name).software:
            continue
        resolved += 1
        data_id = next((made for _ in range(12) if (made := some_data_id(item, name, rng))), None)
        if data_id is not None:
            questions.append((item, sdss_values(data_id)))
            ours.append(archive.url(data_id))
    asked, answered = folder / "questions", folder / "answers"
    asked.write_text(json.dumps(questions))
    tree = release(name).tree
    command = [sys.executable, "-W", "ignore", "-c", PEER, tree, ROOT, str(asked), str(answered)]
    subprocess.run(command, check=True, capture_output=True)
    assert len(ours) >= 0.95 * resolved
    return ours, json.loads(answered.read_text())


def check(ours: list[str], theirs: list[str], host: str) -> None:
    assert ours == theirs
    assert all(url.startswith(f"https://{host}/sas/") for url in ours)
    assert all(quote(url, safe="/:+,=()") == url for url in ours)  # nothing that HTTP would have otherwise


@pytest.mark.parametrize("name", tree_names())
def test_addresses_agree_with_sdss_access(name: str, tmp_path: Path) -> None:
    ours, theirs = compare(name, tmp_path)
    check(ours, theirs, "data.sdss.org" if name.startswith("DR") else "data.sdss5.org")
    assert ours or name == "DR7"  # of which the tree knows only software products


@pytest.mark.parametrize("tree", [name for name in tree_names() if name.startswith("IPL")])
def test_so_do_those_of_internal_releases_with_versions(
    tree: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f'[releases.ours]\ntree = "{tree}"\napred = "1.2"\nrun2d = "v6_1_1"\nv_astra = "0.5.0"\n'
    (tmp_path / "astra.toml").write_text(text)
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    ours, theirs = compare("ours", tmp_path)
    check(ours, theirs, "data.sdss5.org")
    assert len(ours) > 100


@pytest.mark.parametrize(
    "value",
    [
        "data.sdss.org/sas",
        "ftp://data.sdss.org/sas",
        "https://",
        "https://data.sdss.org:x/sas",
        "https://[::1/sas",
        "https://data.sdss.org/sas?x=1",
        "https://data.sdss.org/s as",
        f"https://sdss:{SECRET}@data.sdss.org/sas",
    ],
)
def test_addresses_that_are_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ASTRA_SAS_URL", value)
    with pytest.raises(ConfigurationError, match="ASTRA_SAS_URL") as caught:
        settings.sas_url()
    assert SECRET not in str(caught.value)


def test_the_archive_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_BASE_DIR", str(tmp_path))
    assert Archive.from_settings().url(ONE) == ONE.url
    monkeypatch.setenv("ASTRA_SAS_URL", "https://data.mirror.sdss.org/sas/")
    assert Archive.from_settings() == Archive(tmp_path, "https://data.mirror.sdss.org/sas")
    assert Archive.from_settings().url(ONE) == f"https://data.mirror.sdss.org/sas/{ONE.relative_path}"
