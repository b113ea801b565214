"""What is on a page of spectra, and opening one in a browser."""

import base64
import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from astra_dagster.spectra import SpectrumBatch

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=25000",
    "--window-size=1300,850",
]


def small(rows: int = 2, start: float = 15000.0, **others: Any) -> SpectrumBatch:
    """Spectra of a few pixels, two of them bad."""
    flux = np.arange(1.0, 20 * rows + 1).reshape(rows, 20)
    ivar = np.full((rows, 20), 4.0)
    ivar[:, 5:7] = 0
    return SpectrumBatch(flux, ivar, start + np.arange(20.0), **others)


def models(html: str) -> list[dict[str, Any]]:
    """All Bokeh models of a page."""
    found = re.search(r'<script type="application/json" id="[^"]*">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    made: list[dict[str, Any]] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("type") == "object" and "id" in value:
                made.append(value)
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)

    walk(json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))
    return made


def columns(model: dict[str, Any]) -> dict[str, Any]:
    """Columns of a data source."""
    found = {}
    for name, value in model["attributes"]["data"].get("entries", []):
        if isinstance(value, dict) and value.get("type") == "ndarray":
            contents = gzip.decompress(base64.b64decode(value["array"]["data"]))
            found[name] = np.frombuffer(contents, value["dtype"]).reshape(value["shape"])
        else:
            found[name] = value
    return found


def spectra_of(html: str) -> list[dict[str, Any]]:
    sources = (columns(model) for model in models(html) if model["name"] == "ColumnDataSource")
    return [source for source in sources if "error" in source]


def open_page(html: str, folder: Path, *options: str) -> str:
    """Open a page in a browser that reaches no network, and return what it writes; skip the test without a browser."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium to open the page with")
    (folder / "page.html").write_text(html, encoding="utf-8")
    places = ("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}")
    command = [chromium, *FLAGS, *places, *options, (folder / "page.html").as_uri()]
    return subprocess.run(command, capture_output=True, check=True, timeout=120, text=True).stdout
