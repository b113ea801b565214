"""The page of a comparison: points, densities and spectra, and what a click does."""

import html
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from astra_dagster.comparison import page as pages
from astra_dagster.comparison import panels
from astra_dagster.comparison.comparison import Comparison, compare_sides
from astra_dagster.comparison.page import page
from astra_dagster.comparison.panels import choose_panels
from astra_dagster.comparison.sides import Side
from astra_dagster.errors import InputMissingError
from astra_dagster.viewer.shown import ShownSpectra
from astra_dagster_tests.comparison.sides import key_of, make
from astra_dagster_tests.viewer.pages import models, open_page, small

N = 200
KEYS = [key_of(i) for i in range(N)]


def read(key: str) -> ShownSpectra:
    if key == KEYS[9]:
        raise InputMissingError("gone", key=key)
    return ShownSpectra(small(), key, "apVisit")


def made() -> Comparison:
    rng = np.random.default_rng(2)
    snr, noise = rng.normal(50, 5, N), rng.normal(0, 0.1, N)
    noise[[5, 9, 11]] = [30, 20, -10]
    sides: list[Side] = [
        replace(make(name, KEYS, snr=snr + i * noise, same=snr), read=read, show=f"<task> --set {name}")
        for i, name in enumerate(("order=3", "order=5"))
    ]
    return compare_sides(*sides)


def test_of_few_rows_all_are_points_and_of_many_the_outliers(monkeypatch: pytest.MonkeyPatch) -> None:
    few = choose_panels(made())
    assert list(few) == ["snr"]  # the other column is the same
    assert list(few["snr"].panels) == [
        "b over a", "b - a over MJD", "b - a over fibre", "b - a over S/N", "b - a over a"
    ]  # fmt: skip
    assert len(few["snr"].rows) == N
    assert few["snr"].density("b over a")["image"] == []
    monkeypatch.setattr(panels, "FEW", 10)
    many = choose_panels(made())["snr"]
    assert many.rows.tolist() == [5, 9, 11]
    assert many.density("b over a")["image"][0].shape == (80, 120)
    assert many.histogram()["top"].sum() >= N
    low, high = many.spread
    assert many.points()["difference"].tolist() == pytest.approx([high, high, low])
    assert many.points()["b"][0] - many.points()["a"][0] == pytest.approx(30, rel=1e-5)


def test_a_point_that_is_clicked_shows_both_spectra_or_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "WORST", 2)
    text = page(made())
    assert sum(model["name"] == "Figure" for model in models(text)) == 8
    head, _, rest = text.rpartition("</body>")
    script = """<script>setTimeout(async () => {
      const all = [...Bokeh.documents[0]._all_models.values()], said = all.find(one => one.type === "Div");
      const points = all.find(one => one.data?.difference && Object.keys(one.selected.js_property_callbacks)[0]);
      const lines = all.filter(one => one.type === "GlyphRenderer" && one.glyph.type === "Line"), told = [];
      for (const row of [5, 9]) {
        points.selected.indices = [points.data.row.indexOf(row)];
        await new Promise(done => setTimeout(done, 100));
        told.push(`${lines.map(one => one.data_source.data.y.length)} ${said.text}`);
      }
      document.body.textContent = told.join(" | ");
    }, 300);</script>"""
    told = open_page(f"{head}{script}</body>{rest}", tmp_path, "--dump-dom", "--virtual-time-budget=5000")
    first, second = html.unescape(told[told.rindex("<body") :]).split(" | ")
    assert "20,20" in first
    assert KEYS[5] in first
    assert "astra-dagster" not in first
    assert "0,0" in second
    assert f"astra-dagster show {KEYS[9]} &lt;task>" in second
