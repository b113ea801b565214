"""What a notebook shows of spectra, searches and results; and the notebook of the documentation, executed."""

from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from astra_dagster import ap_visit
from astra_dagster.definitions import defs
from astra_dagster.errors import AstraError, TooManyRowsError
from astra_dagster.orchestration.partitions import register
from astra_dagster.results import pages
from astra_dagster.results.search import Found
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster_tests.documented import DOCS, blocks_of

NOTEBOOK = DOCS / "how-to" / "stars.ipynb"
KEYS = tuple(f"DR17/apo25m/120+12/5226/56000/00{i}" for i in (1, 2))
LINES = 14
"""Most lines of Python from a search to a plotted result."""


def make_batch(number: int = 2) -> SpectrumBatch:
    flux = np.ones((number, 50))
    meta = {"object": ("<star>",) * number, "snr": (10.0,) * number, "row": (None,) * number}
    return SpectrumBatch(flux, flux, np.linspace(15000, 15010, 50), meta=meta)


def test_a_batch_is_told_in_a_line_and_shown_as_a_table() -> None:
    assert repr(make_batch()) == "SpectrumBatch: 2 spectra of 50 pixels, 15000 to 15010 Angstrom"
    assert repr(SpectrumBatch(np.ones(5), np.ones(5))) == "SpectrumBatch: 1 spectrum of 5 pixels"
    shown = make_batch(12)._repr_html_()
    assert "<th>object</th><th>snr</th></tr>" in shown
    assert "<td>&lt;star&gt;</td><td>10.0</td>" in shown
    assert "and 2 more" in shown


def test_a_batch_is_plotted(tmp_path: Path) -> None:
    page = make_batch().plot(row=1, title="a <pair>")
    assert repr(page).startswith("Page of a <pair>; ")
    assert page._repr_html_().startswith('<iframe srcdoc="')
    assert "a &amp;lt;pair&amp;gt;" in page._repr_html_()
    assert page.save(tmp_path / "pair.html").read_text() == page.html
    with pytest.raises(AstraError, match="no spectrum 2"):
        make_batch().plot(row=2)
    with pytest.raises(AstraError, match="cannot be drawn"):
        SpectrumBatch(np.ones(5), np.ones(5)).plot()
    with pytest.raises(TooManyRowsError, match=r"31 spectra are more than the 30.*plot some"):
        make_batch(31).plot()


def test_a_search_is_a_table_and_plots_its_files(instance: dg.DagsterInstance) -> None:
    register(instance, ap_visit, KEYS)
    found = ap_visit.search(plate=5226)
    shown = found._repr_html_()
    assert "2 files of apVisit" in shown
    assert "<td>120+12</td><td>5226</td><td>56000</td><td>001</td>" in shown
    assert found.plot().title == f"apVisit {KEYS[0]} and 1 more"
    with pytest.raises(TooManyRowsError, match="31 files"):
        Found(ap_visit, KEYS[:1] * (pages.MOST + 1)).plot()


def test_the_page_counts_its_lines_beside_those_of_lightkurve() -> None:
    page = (DOCS / "how-to" / "python.md").read_text()
    section = page[page.index("## If you know lightkurve") : page.index("## Run tasks")]
    codes = [block.text for block in blocks_of(section) if block.language == "python"]
    assert [len([line for line in code.splitlines() if line]) for code in codes] == [7, 9]
    assert "Nine lines beside seven" in section


@pytest.mark.slow
def test_the_notebook_goes_from_a_search_to_a_plotted_result(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install nbclient ipykernel")
    nbformat = pytest.importorskip("nbformat")
    (tmp_path / "astra.toml").write_text('workers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    assert defs.resolve_job_def("discover").execute_in_process(instance=instance).success
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in cells)
    assert sum(len(cell.source.split("\n")) for cell in cells) <= LINES
    client.NotebookClient(notebook, timeout=250, kernel_name="python3").execute(cwd=str(tmp_path))
    shown = [cell.outputs[-1]["data"]["text/html"] for cell in cells]
    assert "3 files of apStar" in shown[0]
    assert "ap_star_snr: " in shown[1]
    assert "<iframe" in shown[2]
    assert "ap_star_continuum DR17/" in shown[2]
    assert "<iframe" in shown[3]
