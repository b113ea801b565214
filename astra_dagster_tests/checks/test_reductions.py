"""The last reduction against the one before."""

from collections.abc import Mapping
from pathlib import Path

from astra_dagster.checks.reductions import CHECK, reductions_alike
from astra_dagster.checks.table_checks import Table
from astra_dagster.tables.collection import collect
from astra_dagster.tasks.snr import ap_star_snr, ap_visit_snr, spec_snr
from astra_dagster_tests.tables.collected import key_of, results_of, store_of, write

COUNT = 200


def table(root: Path, **velocities: Mapping[int, float]) -> Table:
    store, records = store_of(root), {}
    for release, values in velocities.items():
        for number in range(1, COUNT + 1):
            key = key_of(number).replace("DR17", release)
            records |= write(store, key, {**results_of(number), "velocity": values.get(number, number + 0.25)})
    return Table(store, collect(store, records, fits=False).parquet, list)


def test_nearly_all_agree_and_those_that_jump_are_named(tmp_path: Path) -> None:
    verdict = reductions_alike(table(tmp_path, DR16={}, DR19={}, DR17={4: 90.0}))
    assert (verdict.looked_at, verdict.what, verdict.findings) == (COUNT, "pairs", ())
    assert verdict.note == f"1 jump from DR17: {key_of(4).replace('DR17', 'DR19')}"


def test_too_many_that_differ_are_a_finding(tmp_path: Path) -> None:
    verdict = reductions_alike(table(tmp_path, DR16={}, DR17={number: number * 1.5 for number in range(1, 5)}))
    (finding,) = verdict.findings
    assert (finding.key, finding.value) == ("DR17/velocity", "98.0% within 0.5%")
    assert finding.expected == "99% within 0.5% of DR16"


def test_one_release_is_no_comparison(tmp_path: Path) -> None:
    assert reductions_alike(table(tmp_path, DR17={})).note == "there is one release"


def test_it_is_for_tasks_whose_keys_tell_what_belongs_together() -> None:
    assert [CHECK.applies(task) for task in (ap_visit_snr, ap_star_snr, spec_snr)] == [True, True, False]
