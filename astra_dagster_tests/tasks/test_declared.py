"""Variants that are declared in YAML: what they are, and what is said of a mistake."""

import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster.errors import ConfigurationError
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tasks import registry
from astra_dagster.tasks.continuum import ap_visit_continuum
from astra_dagster.tasks.declared import Declared, read_declared
from astra_dagster.tasks.decorator import spectrum_task
from astra_dagster.tasks.parameters import Parameters
from astra_dagster.tasks.snr import ap_visit_snr, spec_snr
from astra_dagster.tasks.task import Task

KNOWN = (ap_visit_continuum, ap_visit_snr, spec_snr)
TAKEN = frozenset(["ap_visit", "ap_visit_continuum", "ap_visit_snr", "ap_visit_snr_table", "spec_snr"])
GOOD = """\
type: astra_dagster.SpectrumTask
attributes:
  task: ap_visit_continuum
  name: order5
  parameters: {order: 5, continuum_regions: [[15200, 15300], [15900, 16000.5]]}
  releases: [DR17, DR13]
"""


def read(folder: Path, text: str, known: tuple[Task, ...] = KNOWN) -> dict[str, Declared]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "defs.yaml").write_text(text, encoding="utf-8")
    return read_all(folder, known)


def read_all(folder: Path, known: tuple[Task, ...] = KNOWN) -> dict[str, Declared]:
    """What the files of a folder declare, if none of it is broken."""
    read_declared.cache_clear()
    found = read_declared(folder, known, TAKEN)
    for error in found.broken.values():
        raise error
    return dict(found.variants)


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """What is said of a file after its name, which must come first and is followed by a line."""

    def message(text: str, known: tuple[Task, ...] = KNOWN) -> str:
        with pytest.raises(ConfigurationError) as caught:
            read(tmp_path, textwrap.dedent(text), known)
        start = f"{tmp_path / 'defs.yaml'}:"
        assert str(caught.value).startswith(start)
        return str(caught.value).removeprefix(start)

    return message


def test_a_declared_variant_is_that_of_python(tmp_path: Path) -> None:
    regions = ((15200.0, 15300.0), (15900.0, 16000.5))
    python = ap_visit_continuum.variant("order5", order=5, continuum_regions=regions, releases=["DR17", "DR13"])
    (found,) = read(tmp_path, GOOD).values()
    for name in python.__dataclass_fields__:
        if name != "defaults":
            assert getattr(found.task, name) == getattr(python, name), name
    assert found.task.values() == python.values()
    assert found.task.digest(found.task.values()) == python.digest(python.values())
    stores = [OutputStore(tmp_path, task, task.values()) for task in (found.task, python)]
    data_id = python.domain.parse_key("DR17/apo25m/120+12/5226/56000/001")
    assert stores[0].path(data_id) == stores[1].path(data_id)
    assert str(found) == f"{tmp_path / 'defs.yaml'}:1"


def test_parameters_and_releases_may_be_left_out(tmp_path: Path) -> None:
    text = "type: astra_dagster.SpectrumTask\nattributes: {task: spec_snr, name: again}\n"
    task = read(tmp_path, text)["spec_snr_again"].task
    assert (task.values(), task.releases) == (spec_snr.values(), ())


def test_a_file_may_declare_several_and_hold_what_is_not_ours(tmp_path: Path) -> None:
    other = "---\ntype: my_survey.Other\nattributes: {when: 2020-02-31}\n---\n---\n- 1\n"
    second = "---\n" + GOOD.replace("order5", "again")
    found = read(tmp_path, GOOD + other + second)
    assert {name: item.line for name, item in found.items()} == {
        "ap_visit_continuum_order5": 1,
        "ap_visit_continuum_again": 14,
    }


def test_files_are_found_where_dagster_finds_them(tmp_path: Path) -> None:
    def declare(place: str, name: str) -> None:
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GOOD.replace("order5", name))

    declare("defs.yaml", "a")
    declare("deep/er/defs.yml", "b")
    declare("both/defs.yaml", "c")
    declare("both/defs.yml", "no")
    declare(".hidden/defs.yaml", "no")
    declare("other/undefs.yaml", "no")
    declare("other/defs.yxml", "no")
    assert set(read_all(tmp_path)) == {f"ap_visit_continuum_{name}" for name in "abc"}


HEAD = "type: astra_dagster.SpectrumTask\nattributes:\n  task: ap_visit_continuum\n  name: x\n"
MISTAKES = {
    "unknown task": (GOOD.replace("ap_visit_continuum", "ap_visit_contnuum"), "3: no task", "ap_visit_continuum"),
    "unknown parameter": (HEAD + "  parameters:\n    L: 900.0\n    ordr: 5\n", "7: no parameter 'ordr'", "order?"),
    "parameter that is no text": (HEAD + "  parameters:\n    5: 5\n", "6: no parameter 5", ""),
    "wrong type": (HEAD + "  parameters:\n    order: five\n", "6: order cannot be 'five'", "int"),
    "wrong type in a list": (
        HEAD + "  parameters:\n    regions:\n    - [1, 2]\n    - [3]\n",
        "6: regions cannot be",
        "",
    ),
    "number as text": (HEAD + "  parameters:\n    L: 1e3\n", "6: L cannot be '1e3'", "1.0e-3"),
    "number in quotes": (HEAD + "  parameters: {order: '5'}\n", "5: order cannot be '5'", "no quotes"),
    "not finite": (HEAD + "  parameters: {L: .nan}\n", "5: L cannot be nan", "finite"),
    "nothing": (HEAD + "  parameters:\n    order:\n", "6: order cannot be None", ""),
    "out of bounds": (HEAD + "  parameters:\n    L: 900.0\n\n    order: 51\n", "8: order cannot be 51", "at most 50"),
    "a check of the task's": (
        HEAD + "  parameters:\n    continuum_regions: nowhere\n",
        "6: continuum_regions",
        "apogee",
    ),
    "template": (HEAD + "  parameters:\n    continuum_regions: '{{ env.X }}'\n", "6: continuum_regions", "template"),
    "unknown release": (HEAD + "  releases:\n  - DR17\n  - DR71\n", "7: no release 'DR71'", "did you mean DR7"),
    "release without the product": (HEAD + "  releases: [DR8]\n", "5: ", "apVisit"),
    "release that is no text": (HEAD + "  releases: [17]\n", "5: no release '17'", ""),
    "one release": (HEAD + "  releases: DR17\n", "5: releases cannot be 'DR17'", "[DR17]"),
    "no releases": (HEAD + "  releases:\n", "5: releases cannot be None", ""),
    "unknown attribute": (HEAD + "  parameter: {order: 5}\n", "5: no attribute 'parameter'", "parameters?"),
    "no name": (GOOD.replace("  name: order5\n", ""), "2: name is missing", ""),
    "empty name": (GOOD.replace("order5", "''"), "4: name cannot be ''", ""),
    "name that is no text": (GOOD.replace("order5", "5"), "4: name cannot be 5", ""),
    "impossible name": (GOOD.replace("order5", "Order-5"), "4: the name of a task must be", ""),
    "whole name": (
        GOOD.replace("order5", "ap_visit_continuum_order5"),
        "4: the name of the task",
        "write name: order5",
    ),
    "no attributes": ("\n\ntype: astra_dagster.SpectrumTask\n", "3: attributes are missing", "task, name"),
    "attributes that are none": ("type: astra_dagster.SpectrumTask\nattributes: 5\n", "2: attributes are missing", ""),
    "twice in a file": (GOOD + "---\n" + GOOD, "11: there is an asset ap_visit_continuum_order5 at", "defs.yaml:1;"),
    "parameter twice": (HEAD + "  parameters:\n    order: 5\n    order: 6\n", "7: order stands here twice", ""),
    "attribute twice": (HEAD + "  name: y\n", "5: name stands here twice", ""),
    "no YAML": (HEAD + "  parameters: {order: 5\n", "6: this is not YAML", ""),
    "control characters": (HEAD + "\x07", "5: this is not YAML", ""),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_line(mistake: str, refused: Callable[..., str]) -> None:
    text, start, hint = MISTAKES[mistake]
    message = refused(text)
    assert message.startswith(start), message
    assert hint in message, message
    assert "\n" not in message


def test_a_name_that_an_asset_has_is_refused(refused: Callable[..., str]) -> None:
    table = "type: astra_dagster.SpectrumTask\nattributes:\n  task: ap_visit_snr\n  name: table\n"
    assert refused(table).startswith("4: there is an asset ap_visit_snr_table already")
    first = GOOD.replace("order5", "b_table") + "---\n"  # also of a table that another would have
    assert refused(first + GOOD.replace("order5", "b")).startswith(
        "11: there is an asset ap_visit_continuum_b_table at "
    )


def test_the_place_of_a_name_that_another_file_has(tmp_path: Path) -> None:
    read(tmp_path / "a", GOOD)
    read(tmp_path / "b", "# mine\n" + GOOD)
    with pytest.raises(ConfigurationError) as caught:
        read_all(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'b' / 'defs.yaml'}:5: ")
    assert f"{tmp_path / 'a' / 'defs.yaml'}:1" in str(caught.value)


def test_what_depends_on_one_another_is_checked_together(tmp_path: Path, refused: Callable[..., str]) -> None:
    class Window(Parameters):
        low: float = 1.0
        high: float = 2.0

        def __post_init__(self) -> None:
            super().__post_init__()
            if not self.low < self.high:
                raise ValueError("low must be below high")

    @spectrum_task(requires=spec_snr, parameters=Window, version="1")
    def window(snr, parameters):
        return {"x": []}

    head = "type: astra_dagster.SpectrumTask\nattributes:\n  task: window\n  name: x\n  parameters:\n"
    assert refused(head + "    high: 9.0\n    low: 10.0\n", (window,)).startswith("7: low must be below high")
    found = read(tmp_path, head + "    low: 3.0\n    high: 4.0\n", (window,))
    assert found["window_x"].task.values() == Window(low=3.0, high=4.0)
    found = read(tmp_path, head.replace("x\n", "name\n") + "    high: 4.0\n", (window,))
    assert "window_name" in found


def test_a_parameter_may_be_called_name(tmp_path: Path) -> None:
    class Line(Parameters):
        name: str = "hbeta"

    @spectrum_task(requires=spec_snr, parameters=Line, version="1")
    def line(snr, parameters):
        return {"x": []}

    text = "type: astra_dagster.SpectrumTask\nattributes: {task: line, name: a, parameters: {name: halpha}}\n"
    assert read(tmp_path, text, (line,))["line_a"].task.values() == line.variant("a", name="halpha").values()


@given(
    before=st.lists(st.sampled_from(["", "# no", "    L: 900.0", "    regions: [[1, 2],\n\n  [3, 4]]"]), unique=True)
)
def test_the_line_is_that_of_the_parameter(tmp_path_factory: pytest.TempPathFactory, before: list[str]) -> None:
    lines = "\n".join([HEAD + "  parameters:", *before, "    order: 0", "    # more"])
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path_factory.mktemp("defs"), lines)
    line = 1 + lines.splitlines().index("    order: 0")
    assert f"defs.yaml:{line}: order cannot be 0" in str(caught.value)


def tried(folder: Path, text: str) -> tuple[str, dict[str, Declared]]:
    """What is said of a file that is refused, else what it declares."""
    try:
        return "", read(folder, text)
    except ConfigurationError as error:
        said = str(error)
    assert said.startswith(f"{folder / 'defs.yaml'}:")
    return said, {}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.dictionaries(st.sampled_from(["task", "name", "parameters", "releases", "x"]), VALUES))
def test_any_attributes_are_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    text = yaml.safe_dump({"type": "astra_dagster.SpectrumTask", "attributes": values})
    with pytest.raises(ConfigurationError, match=r"defs\.yaml:\d+: "):
        read(tmp_path_factory.mktemp("defs"), text)


@given(values=st.dictionaries(st.sampled_from(["order", "L", "regions", "continuum_regions"]), VALUES))
def test_any_parameters_are_taken_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, object]
) -> None:
    attributes = {"task": "ap_visit_continuum", "name": "x", "parameters": values}
    text = yaml.safe_dump({"type": "astra_dagster.SpectrumTask", "attributes": attributes})
    refused, found = tried(tmp_path_factory.mktemp("defs"), text)
    if not refused:
        assert found["ap_visit_continuum_x"].task.values() == ap_visit_continuum.values(values)


SNIPPETS = [
    "type: astra_dagster.SpectrumTask\n",
    "attributes:\n",
    "  name: x\n",
    "&a ",
    "*a",
    "<<: ",
    "!!int x",
    "!!bool x",
]


@given(
    pieces=st.lists(st.sampled_from([*SNIPPETS, "- ", "? ", "{", "[", "---\n", "!!python/name:os.system"]) | st.text())
)
def test_any_text_is_read_or_refused_in_words(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]) -> None:
    tried(tmp_path_factory.mktemp("defs"), "".join(pieces))


@pytest.mark.parametrize("data", [b"\xff\xfe", b"type: \x80", b"\x00"])
def test_bytes_that_are_no_text_are_refused_in_words(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "defs.yaml").write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"defs\.yaml:1: "):
        read_all(tmp_path)


def test_a_variant_goes_to_other_processes_with_its_releases() -> None:
    variant = ap_visit_snr.variant("double", fudge_factor=2.0, releases=["DR17"])
    back = pickle.loads(pickle.dumps(variant))
    assert (back.name, back.values(), back.releases) == (variant.name, variant.values(), ("DR17",))
    assert variant.with_parameters(fudge_factor=3.0).releases == ("DR17",)


CONFIGURED = """
import sys
from astra_dagster.tasks import registry
assert registry.find_task("ap_visit_continuum_order5").values().order == 5
assert registry.tasks()["ap_visit_continuum_order5"] is registry.tasks()["ap_visit_continuum_order5"]
assert set(registry.declared()) == {"ap_visit_continuum_order5"}
assert "dagster" not in sys.modules
"""


def test_the_configuration_names_the_folder_and_dagster_is_not_needed(tmp_path: Path) -> None:
    (tmp_path / "my_defs").mkdir()
    (tmp_path / "my_defs" / "defs.yaml").write_text(GOOD)
    (tmp_path / "astra.toml").write_text('defs = "my_defs"\n')
    env = {**os.environ, "ASTRA_CONFIG": str(tmp_path / "astra.toml")}
    subprocess.run([sys.executable, "-c", CONFIGURED], check=True, env=env)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("defs = 5", "defs cannot be 5; expected the name"),
        ('defs = "no_such_defs"', "package no_such_defs cannot be imported"),
        ('defs = "json.decoder"', "json.decoder is a module and no folder"),
        ('defs = "empty_defs"', "no defs.yaml declares an astra_dagster.SpectrumTask"),
    ],
)
def test_a_wrong_folder_in_the_configuration(
    line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty_defs").mkdir()
    (tmp_path / "astra.toml").write_text(line + "\n")
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    try:
        told = str(registry.broken()["defs"])
        assert {"ap_visit_snr", "spec_continuum"} <= set(registry.tasks())  # the others are there
    except ConfigurationError as error:  # not even of the right type
        told = str(error)
    assert words in told
    sys.modules.pop("empty_defs", None)


def test_a_broken_declaration_leaves_the_rest_alone(tmp_path: Path) -> None:
    wrong = GOOD.replace("order5", "wrong").replace("{order: 5,", "{order: 51,")
    read(tmp_path / "a", GOOD)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "defs.yaml").write_text(wrong + "---\n" + GOOD.replace("order5", "again"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "defs.yaml").write_text(GOOD.replace("order5", "lost") + "---\n: : :\n")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "defs.yaml").write_text("type: astra_dagster.SpectrumTask\nattributes: 5\n---\n" + GOOD)
    read_declared.cache_clear()
    found = read_declared(tmp_path, KNOWN, TAKEN)
    assert set(found.variants) == {"ap_visit_continuum_order5", "ap_visit_continuum_again"}
    assert {name: str(error).partition(": ")[0] for name, error in found.broken.items()} == {
        "ap_visit_continuum_wrong": f"{tmp_path / 'b' / 'defs.yaml'}:5",
        "c/defs.yaml": f"{tmp_path / 'c' / 'defs.yaml'}:8",
        "d/defs.yaml:1": f"{tmp_path / 'd' / 'defs.yaml'}:2",
        "d/defs.yaml:4": f"{tmp_path / 'd' / 'defs.yaml'}:7",  # of two with one name the first one stays
    }
