"""An error of a user's code names the user's file, line and function, wherever it arises."""

import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from astra_dagster import SpectrumBatch, ap_star, matching
from astra_dagster.errors import ParameterError, TaskError, describe, describe_user_error
from astra_dagster.tasks import registry
from astra_dagster.tasks.snr import ap_visit_snr

BATCH = SpectrumBatch(flux=np.ones((3, 20)), ivar=np.ones((3, 20)))

CODE = """
import numpy as np
from astra_dagster import Parameters, ap_visit, spectrum_task

from mistaken.inner import helper


class Window(Parameters):
    low: float = 1.0
    high: float = 2.0

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low must be below high")
        self.high / self.low


@spectrum_task(requires=ap_visit, parameters=Window, version="1")
def direct(spectra, parameters):
    return {"n": [][1]}


@spectrum_task(requires=ap_visit, version="1")
def by_helper(spectra, parameters):
    return {"n": helper(spectra)}


@spectrum_task(requires=ap_visit, version="1", each=True)
def one(spectrum, parameters):
    return {"n": np.linalg.inv(np.zeros((2, 2)))}


@spectrum_task(requires=ap_visit, version="1")
def ours(spectra, parameters):
    return {"n": spectra.rejecting(["NOSUCH"])}


def find(star, path):
    yield {"plate": path.nothing}
"""


@pytest.fixture
def mistaken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package of a user, in which much goes wrong."""
    folder = tmp_path / "mistaken"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "inner.py").write_text("def helper(spectra):\n    return 1 / 0\n")
    (folder / "tasks.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("mistaken.tasks")
    for name in [name for name in sys.modules if name.partition(".")[0] == "mistaken"]:
        del sys.modules[name]


def line_of(text: str) -> int:
    return CODE[: CODE.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("direct", "direct failed: IndexError: list index out of range (line {} of mistaken/tasks.py, in direct)"),
        ("by_helper", "by_helper failed: ZeroDivisionError: division by zero (line 2 of mistaken/inner.py, in helper)"),
        ("one", "one failed: LinAlgError: Singular matrix (line {} of mistaken/tasks.py, in one)"),
        ("ours", "(line {} of mistaken/tasks.py, in ours)"),
    ],
)
def test_of_a_function(name: str, message: str, mistaken: ModuleType) -> None:
    place = {"direct": "[][1]", "one": "np.linalg", "ours": "NOSUCH"}.get(name, "import numpy")
    with pytest.raises(TaskError, match=re.escape(message.format(line_of(place)))):
        getattr(mistaken, name)(BATCH)


def test_of_a_check_of_parameters(mistaken: ModuleType) -> None:
    place = rf" \(line {line_of('raise ValueError')} of mistaken/tasks\.py, in __post_init__\)"
    with pytest.raises(ParameterError, match=f"^low must be below high{place}"):
        mistaken.direct.setting(low=5.0)
    place = rf"\(line {line_of('self.high / self.low')} of mistaken/tasks\.py, in __post_init__\)"
    with pytest.raises(ParameterError, match=f"^ZeroDivisionError: float division by zero {place}"):
        mistaken.direct.setting(low=0.0)


def test_of_what_finds_members(mistaken: ModuleType, tmp_path: Path) -> None:
    required = matching(ap_visit_snr, ap_star, mistaken.find)
    star = ap_star.data_id("DR17", telescope="apo25m", field="120+12", obj="2M00000032+5737103")
    with pytest.raises(TaskError, match=r"find failed: AttributeError: .* of mistaken/tasks\.py, in find\)"):
        required.members(star, tmp_path, required.index([]))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("from astra_dagster import ap_visit, spectrum_task\n\nspectrum_task(ap_visit, version='a b')(print)\n", "3"),
        ("x = 1\nx = (\n", "2"),
    ],
)
def test_of_a_declaration(
    text: str, place: str, mistaken: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mistaken" / "other.py").write_text(text)
    (tmp_path / "astra.toml").write_text('packages = ["mistaken"]\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    error = registry.broken()["mistaken"]
    assert f"(other.py, line {place})" in error.message
    assert error.path == str(tmp_path / "mistaken" / "other.py")


def test_what_arises_in_no_code_of_a_user_names_none() -> None:
    with pytest.raises(ValueError, match="Expecting") as caught:
        json.loads("{")
    within = caught.value.with_traceback(caught.tb.tb_next)
    assert describe_user_error(within) == describe(within)
