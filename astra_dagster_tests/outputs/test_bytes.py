"""The bytes of what is written, and where: people have outputs of earlier versions, which must be recognised."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest

from astra_dagster.errors import SpectrumFileError
from astra_dagster.tables.table_fits import write_fits
from astra_dagster_tests.outputs.written import OUTPUTS, write

EXPECTED = {
    "columns": (
        "columns/d04b76c5b3ed/DR17/apo25m/120+12/5226/56000",
        "columns-DR17-apo25m-120+12-5226-56000-001.json",
        ("06b3531ea63059b9", "73cce7502e3b7377", "9a33a1258c70e67a"),
        "73bbc04d68d7d6ac",
    ),
    "spectra": (
        "spectra/d04b76c5b3ed/DR17/v5_13_2/4055/55359",
        "spectra-DR17-v5_13_2-4055-55359-0596.fits",
        ("457fe7d0e5cc5968", "3111194a1c442b91", "1bcfcce3bae503fa"),
        "a76b0ffc19546622",
    ),
    "several": (
        "spectra_of_star/44136fa355b3/DR17/apo25m/120+12",
        "spectra_of_star-DR17-apo25m-120+12-2M00012723+6258059.fits",
        ("d2f862f22697cd66", "81604ffe5de663ad", "3a64db86ac01c4f1"),
        "691ea9631a211ed7",
    ),
    "of both": (
        "of_both/7e4d61f37c42/DR17/v5_13_2/4055/55359",
        "of_both-DR17-v5_13_2-4055-55359-0596.json",
        ("dc4076c31ea625e2", "671b2d4c3d4d0a87", "f490dff5b6888055"),
        "2458014c4a37ae41",
    ),
    "of many": (
        "of_plate/7e4d61f37c42/DR17/v5_13_2",
        "of_plate-DR17-v5_13_2-4055.json",
        ("30e5da1fcd287dbb", "cb806c22c67a3ec9", "3a2d7d26eeb3d8ed"),
        "8deaa56d69d7123e",
    ),
}
"""Folder and name of an output; hashes of it, of the note of a failure beside it and of parameters.json; version."""


@pytest.mark.parametrize("name", OUTPUTS)
def test_bytes_and_paths_stay_as_they_are(name: str, tmp_path: Path) -> None:
    store, work, written = write(name, tmp_path)
    store.note_failure(work, SpectrumFileError("cannot be read", key=work.data_id.key, hint="fetch it again"))
    folder, file, expected, version = EXPECTED[name]
    assert written.path.relative_to(tmp_path).as_posix() == f"{folder}/{file}"
    assert written.version == version
    paths = (written.path, written.path.with_name(f"{file}.failed"), store.folder / "parameters.json")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(paths)
    assert tuple(hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in paths) == expected


def test_bytes_of_a_fits_table(tmp_path: Path) -> None:
    table = pa.table(
        {
            "release": ["DR17", "DR19"],
            "snr": pa.array([1.5, None]),
            "count": pa.array([3, None]),
            "good": pa.array([True, False]),
            "row": pa.array([[1.0], [2.0, 3.0]]),
        }
    )
    fields = [field.with_metadata({"unit": "Angstrom", "description": f"The {field.name}."}) for field in table.schema]
    with (tmp_path / "table.fits").open("wb") as stream:
        write_fits(stream, table.cast(pa.schema(fields)), "columns", [("CREATOR", "astra_dagster", "program")])
    assert hashlib.sha256((tmp_path / "table.fits").read_bytes()).hexdigest()[:16] == "70906d2ee363c95e"
