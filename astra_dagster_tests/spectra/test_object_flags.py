"""The names of the bits of STARFLAG and ZWARNING, by what the files themselves say."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from astropy.io import fits

from astra_dagster.outputs.pictures import show_file
from astra_dagster.spectra.object_flags import RedshiftWarning, StarFlag
from astra_dagster.tasks.columns import name_flags


def headers_of_visits(roots: list[Path]) -> Iterator[tuple[Path, fits.Header]]:
    for path in (path for root in roots for path in sorted(root.rglob("apVisit-*.fits*"))):
        header = fits.getheader(path)
        if header.get("STARFLAG") is not None:
            yield path, header


def test_flags_of_real_visits_agree_with_what_they_mean(real_mirrors: list[Path]) -> None:
    seen = 0
    for path, header in headers_of_visits(real_mirrors):
        flags = StarFlag(header["STARFLAG"])
        assert (StarFlag.COMMISSIONING in flags) == (header["MJD5"] <= 55761), path
        if abs(header["SNR"] - 5) > 1:  # the header has that after later steps
            assert (StarFlag.LOW_SNR in flags) == (header["SNR"] < 5), path
        assert "unknown" not in name_flags(int(flags), StarFlag), path
        seen += 1
    if not seen:
        pytest.skip("the real files hold no apVisit with STARFLAG")


def test_warnings_of_real_spec_files_agree_with_what_they_mean(real_mirrors: list[Path]) -> None:
    seen = 0
    for path in (path for root in real_mirrors for path in sorted(root.rglob("spec-*.fits*"))):
        with fits.open(path, memmap=False) as hdus:
            if len(hdus) < 3 or hdus[2].data is None or "zwarning" not in {n.lower() for n in hdus[2].columns.names}:
                continue
            row, coadd = hdus[2].data[0], hdus[1].data
        flags = RedshiftWarning(int(row["zwarning"]))
        assert "unknown" not in name_flags(int(flags), RedshiftWarning), path
        covered = (coadd["ivar"] > 0).mean()
        uncovered = RedshiftWarning.LITTLE_COVERAGE | RedshiftWarning.NODATA
        if covered == 0 or covered > 0.5:
            assert bool(flags & uncovered) == (covered == 0), path
        if not flags & uncovered:
            assert (RedshiftWarning.SMALL_DELTA_CHI2 in flags) == (row["rchi2diff"] < 0.01), path
        seen += 1
    if not seen:
        pytest.skip("the real files hold no spec")


def test_pages_of_files_name_their_flags(mirror: Path) -> None:
    path = next(mirror.rglob("apVisit-dr17-*.fits"))
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["STARFLAG"] = 4 + 16 + (1 << 30)
    assert show_file(path).batch.meta["starflag"] == ("bright neighbor, low snr, unknown bits 0x40000000",)
