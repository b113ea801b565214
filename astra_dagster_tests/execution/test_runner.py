"""Running a task over files, its store and its completeness, with Dagster absent."""

import json
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from astra_dagster import Parameters, product, spectrum_task
from astra_dagster.errors import AstraError, OutputError, SpectrumFileError, TaskError
from astra_dagster.execution.runner import _compute
from astra_dagster.outputs.store import OutputStore
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.readers import read_spectra
from astra_dagster.tasks.calling import call_task
from astra_dagster.tasks.columns import MAX_CELLS, Column, Results
from astra_dagster.tasks.snr import SNRParameters, ap_visit_snr
from astra_dagster_tests.execution.work import make_store, run, work_of, work_on


def test_one_document_a_file_at_a_path_that_names_its_parameters(synthetic: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path)
    outcomes = run(store, work_on(synthetic))
    assert len(outcomes) == 12
    first = outcomes[0]
    assert first.written is not None
    assert first.written.path == store.path(first.work.data_id)
    assert first.written.path.relative_to(tmp_path / "out").as_posix() == (
        f"ap_visit_snr/{store.digest}/DR17/apo25m/120+12/5226/56000/ap_visit_snr-DR17-apo25m-120+12-5226-56000-001.json"
    )
    document = json.loads(first.written.path.read_text())
    assert set(document["results"]) == set(ap_visit_snr.columns)
    assert document["provenance"]["task"] == "ap_visit_snr"
    assert document["provenance"]["code_version"] == ap_visit_snr.version
    assert document["provenance"]["parameters"] == {"fudge_factor": 1.0}
    assert document["provenance"]["parameters_digest"] == store.digest
    assert document["provenance"]["inputs"] == [
        {"name": "apVisit", "path": first.work.data_id.relative_path, "data_version": first.work.input_version}
    ]
    assert json.loads((store.folder / "parameters.json").read_text())["parameters"] == {"fudge_factor": 1.0}


def test_same_input_same_bytes_and_order_does_not_matter(synthetic: Path, tmp_path: Path) -> None:
    one, other = make_store(tmp_path / "a"), make_store(tmp_path / "b")
    work = work_on(synthetic)
    run(one, work)
    for item in reversed(work):
        run(other, [item])
    for item in work:
        assert one.path(item.data_id).read_bytes() == other.path(item.data_id).read_bytes()


def test_fudge_factor_multiplies_every_ratio(synthetic: Path, tmp_path: Path) -> None:
    once = run(make_store(tmp_path), work_on(synthetic))
    twice = run(make_store(tmp_path, factor=2.0), work_on(synthetic))
    for one, two in zip(once, twice, strict=True):
        assert one.written is not None
        assert two.written is not None
        assert one.written.path != two.written.path
        for name, value in one.written.results.items():
            assert two.written.results[name] == (2 * value if "snr" in name and name != "header_snr" else value)


def test_a_bad_file_costs_itself(mirror: Path, tmp_path: Path) -> None:
    work = work_on(mirror)
    work[3].path.write_bytes(work[3].path.read_bytes()[:30_000])
    work[5].path.unlink()
    outcomes = run(make_store(tmp_path), work)
    assert [i for i, outcome in enumerate(outcomes) if outcome.error] == [3, 5]
    error = outcomes[3].error
    assert isinstance(error, SpectrumFileError)
    assert error.key == work[3].data_id.key
    assert error.path == str(work[3].path)
    assert sum(outcome.written is not None for outcome in outcomes) == 10


@pytest.mark.parametrize(("guilty", "calls"), [((), 1), ((40,), 13), ((0, 63), 23), (range(64), 127)])
def test_a_batch_that_fails_is_halved(guilty: Collection[int], calls: int, tmp_path: Path) -> None:
    sizes = []

    def picky(numbers: Results, parameters: Parameters) -> Mapping[str, object]:
        sizes.append(len(numbers["i"]))
        assert not set(guilty) & set(numbers["i"].tolist())
        return {"n": numbers["i"]}

    task = spectrum_task(ap_visit_snr, version="1")(picky)
    ids = [product("apVisit").parse_key(f"DR17/apo25m/120+12/5226/56000/{i + 1:03}") for i in range(64)]
    pairs = [(work_of(one, tmp_path, "1"), (Results(i=np.array([i])),)) for i, one in enumerate(ids)]
    made = list(_compute(OutputStore(tmp_path, task, task.values()), pairs))
    assert [i for i, (_, result) in enumerate(made) if isinstance(result, TaskError)] == list(guilty)
    assert [item.data_id for item, _ in made] == ids
    assert len(sizes) == calls


def test_a_function_that_fails_for_one_spectrum_fails_for_no_other(synthetic: Path, tmp_path: Path) -> None:
    work = work_on(synthetic)
    guilty = read_spectra(work[2].path, "apVisit").flux[0, 0]

    def picky(spectra: SpectrumBatch, parameters: SNRParameters) -> dict[str, object]:
        if guilty in spectra.flux[:, 0]:
            raise ZeroDivisionError("picky")
        return {"n": np.ones(len(spectra))}

    task = replace(ap_visit_snr, name="picky", function=picky, columns={"n": Column()})
    outcomes = run(OutputStore(tmp_path, task, SNRParameters()), work)
    assert [i for i, outcome in enumerate(outcomes) if outcome.error] == [2]
    assert isinstance(outcomes[2].error, TaskError)
    assert "ZeroDivisionError: picky" in str(outcomes[2].error)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "differ in n"),
        ({"n": [1.0], "m": [1.0]}, "differ in m"),
        ({"n": [1.0, 2.0]}, "column n has shape"),
        ({"n": np.broadcast_to(1.0, (1, MAX_CELLS + 1))}, "column n has shape"),
        ({"n": [object()]}, "column n has shape"),
    ],
)
def test_wrong_columns_are_typed_errors(columns: dict[str, object], message: str, synthetic: Path) -> None:
    task = replace(ap_visit_snr, function=lambda *_: columns, columns={"n": Column()})
    spectrum = read_spectra(work_on(synthetic)[0].path, "apVisit")
    with pytest.raises(TaskError, match=message):
        call_task(task, [spectrum], SNRParameters())


def test_not_a_number_is_written_as_null(synthetic: Path, tmp_path: Path) -> None:
    task = replace(ap_visit_snr, function=lambda s, _: {"n": np.full(len(s), np.nan)}, columns={"n": Column()})
    store = OutputStore(tmp_path, task, SNRParameters())
    (outcome,) = run(store, work_on(synthetic)[:1])
    assert json.loads(store.path(outcome.work.data_id).read_text())["results"] == {"n": None}


def test_writing_is_all_or_nothing(synthetic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, (item, *_) = make_store(tmp_path), work_on(synthetic)
    run(store, [item])
    before = store.path(item.data_id).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left") as error:
        store.write(item, {"snr": 1.0})
    assert error.value.key == item.data_id.key
    assert store.path(item.data_id).read_bytes() == before
    assert list((tmp_path / "out").rglob("*.tmp")) == []


def test_killed_while_writing_leaves_whole_files_only(synthetic: Path, tmp_path: Path) -> None:
    script = f"""
import os
from pathlib import Path
from astra_dagster_tests.execution.work import make_store, run, work_on
real, count = os.fsync, [0]
def dying(descriptor):
    count[0] += 1
    if count[0] == 6:
        os.kill(os.getpid(), 9)
    real(descriptor)
os.fsync = dying
run(make_store(Path({str(tmp_path)!r})), work_on(Path({str(synthetic)!r})))
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    store = make_store(tmp_path)
    documents = list(store.folder.rglob("ap_visit_snr-*.json"))
    assert len(documents) == 4
    for path in documents:
        json.loads(path.read_text())
    assert all(outcome.written for outcome in run(store, work_on(synthetic)))


def test_outputs_are_recognised_by_their_provenance(synthetic: Path, tmp_path: Path) -> None:
    store, (item, *_) = make_store(tmp_path), work_on(synthetic)
    assert store.find(item) is None
    (outcome,) = run(store, [item])
    assert store.find(item) == outcome.written
    assert store.find(work_of(item.data_id, item.path, "other")) is None
    newer = OutputStore(store.root, replace(ap_visit_snr, version="next"), store.parameters)
    assert newer.find(item) is None
    path = store.path(item.data_id)
    path.write_text(path.read_text()[:-20])
    assert store.find(item) is None


def test_an_output_folder_that_cannot_be_made(synthetic: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="ASTRA_OUTPUTS"):
        run(make_store(tmp_path), work_on(synthetic))


def test_errors_survive_the_way_between_processes() -> None:
    import pickle

    error = SpectrumFileError("bad", key="K", path="/p", hint="fetch it again")
    again = pickle.loads(pickle.dumps(error))
    assert isinstance(again, AstraError)
    assert str(again) == str(error) == "bad (key K, file /p); fetch it again"


def test_the_science_does_not_import_dagster() -> None:
    script = (
        "import sys, astra_dagster, astra_dagster.execution.runner, astra_dagster.tasks.snr, astra_dagster.demo;"
        "assert 'dagster' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
