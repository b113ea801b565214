"""A run in Dagster over files of which some would take all memory: it is red, and says which, where and why."""

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from astra_dagster.execution import runner
from astra_dagster.orchestration.partitions import registered
from astra_dagster.spectra import readers
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster_tests.execution.spoilt import bomb, sparse
from astra_dagster_tests.orchestration.runs.main_job import VISITS, discover, recorded, update


def test_a_run_in_process_names_key_file_and_reason_of_each(
    instance: dg.DagsterInstance, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "astra.toml").write_text('workers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    assert discover(instance).success
    keys = list(registered(instance, VISITS))
    paths = [VISITS.parse_key(key).path(mirror) for key in keys]
    bad = {keys[i]: (paths[i], reason) for i, reason in ((16, "where at most"), (3, "memory"), (5, "LinAlgError"))}
    sparse(paths[16])  # of DR19, undithered
    packed = bomb(".gz")(paths[7])
    paths[7].unlink()
    bad[keys[7]] = packed, "unpacks to more than"
    read = readers.READERS["apVisit"].function

    def reading(path: Path, *, wavelength: bool = True, bitmask: bool = False) -> SpectrumBatch:
        if path == paths[3]:
            raise MemoryError
        if path == paths[5]:
            raise np.linalg.LinAlgError("SVD did not converge")
        return read(path, wavelength=wavelength, bitmask=bitmask)

    monkeypatch.setattr(runner, "read_spectra", lambda path, _, **options: reading(path, **options))
    result = update(instance)
    assert not result.success
    assert recorded(instance) == set(keys) - set(bad)
    (event,) = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    told = {record.data["partition"]: record.data["reason"] for record in failure.metadata["failures"].value.records}
    assert set(told) == set(bad)
    for key, (path, reason) in bad.items():
        assert key in failure.description
        assert reason in told[key]
        assert str(path) in told[key]
