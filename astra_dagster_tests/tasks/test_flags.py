"""Columns of flags: their bits have names in tables, checks and pages, for tasks of the package and for anyone's."""

from enum import IntFlag
from pathlib import Path

import pyarrow.parquet as pq
from astropy.io import fits

from astra_dagster.analysis.quality import ContinuumFlag
from astra_dagster.execution import runner
from astra_dagster.outputs.pictures import shown_output
from astra_dagster.outputs.record import record_of
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tables.collection import collect
from astra_dagster.tasks.columns import Column, name_flags
from astra_dagster.tasks.continuum import ap_visit_continuum
from astra_dagster_tests.execution.work import find_work


class Mood(IntFlag):
    """Flags of a task of one's own."""

    VERY_GOOD = 1
    BAD = 2
    UNUSABLE = BAD


def test_names_of_flags() -> None:
    assert name_flags(0, Mood) == ""
    assert name_flags(3, Mood) == "very good, bad"
    assert name_flags(9, Mood) == "very good, unknown bits 0x8"
    assert name_flags(ContinuumFlag.LOW_SNR | ContinuumFlag.HYDROGEN, ContinuumFlag) == "low snr, hydrogen"
    assert Column("Mood.", flags=Mood).text == "Mood. Bits: 1 very good, 2 bad."
    assert Column("Mood.").text == "Mood."


def test_bits_have_names_in_tables_and_on_pages(synthetic: Path, tmp_path: Path) -> None:
    task = ap_visit_continuum
    store = OutputStore(tmp_path, task, task.values())
    done = [one for chunk in runner.run([(store, find_work(task, synthetic, "DR17"))]) for one in chunk]
    made = collect(store, {one.work.data_id.key: record_of(store, one.work, one.written) for one in done})
    about = pq.read_schema(made.parquet).field("flags").metadata[b"description"].decode()
    assert "16 low snr" in about
    assert "256 velocity unknown" in about
    header = fits.getheader(made.fits, 1)
    (number,) = (name[5:] for name, value in header.items() if name.startswith("TTYPE") and value == "flags")
    assert "16 low snr" in header[f"TCOMM{number}"]
    outcome = next(one for one in done if one.written.results["flags"])
    shown = shown_output(store, outcome.work.data_id)
    assert shown.batch.meta["flags"] == (name_flags(outcome.written.results["flags"], ContinuumFlag),)
