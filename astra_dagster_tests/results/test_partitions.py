"""The output of a partition, why it is as it is, and how many have which status, from Python."""

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from astra_dagster import product
from astra_dagster.errors import InputMissingError, InvalidKeyError, ParameterError
from astra_dagster.orchestration.partitions import register
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster_tests.tables.collected import key_of, results_of, store_of, visit_toy, write

KEY = "DR17/apo25m/120+12/5226/56000/001"


@pytest.fixture
def registered(instance: dg.DagsterInstance) -> None:
    register(instance, product("apVisit"), [KEY, KEY.replace("001", "299")])


def test_an_output_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASTRA_OUTPUTS", str(tmp_path))
    write(store_of(tmp_path), key_of(1), results_of(1))
    found = visit_toy.read(key_of(1))
    assert (found["velocity"][0], found["name"][0]) == (1.25, "star 1")
    assert np.isnan(found["cells"][0][1])
    assert found.provenance["parameters"] == {}
    assert found.provenance["code_version"] == visit_toy.version
    assert [one["data_version"] for one in found.provenance["inputs"]] == ["v1"]
    with pytest.raises(InputMissingError, match="run visit_toy"):
        visit_toy.read(key_of(2))
    with pytest.raises(InvalidKeyError, match="its parts are"):
        visit_toy.read("DR17/1")


@pytest.mark.usefixtures("registered")
def test_it_is_said_why_and_how_many() -> None:
    assert ap_visit_snr.why(KEY) == "to do: no record"
    assert ap_visit_snr.status() == {"to_do": 1, "no_input": 1}
    assert ap_visit_snr.status(where={"fibre": 1}) == {"to_do": 1}
    with pytest.raises(InvalidKeyError, match=r"not registered.*did you mean"):
        ap_visit_snr.why(KEY.replace("001", "002"))
    with pytest.raises(ParameterError, match="did you mean fudge_factor"):
        ap_visit_snr.status(fudge_facto=2)
