"""Files that would take all memory, all time, or wait for ever: they are refused at once, with few bytes allocated."""

import bz2
import gzip
import os
import shutil
import socket
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra_dagster.errors import AstraError, SpectrumFileError
from astra_dagster.fits.reader import LARGEST, FitsFile
from astra_dagster.fits.truncation import is_cut_short
from astra_dagster.spectra.output import is_output, read_output
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.fits.unchecked import read_image
from astra_dagster_tests.spectra.outputs import a_batch, write
from astra_dagster_tests.spectra.synthetic import WRITERS

TERABYTE = 1 << 40
SPARE = 60_000_000
"""Bytes that reading a file of some kilobytes up to two megabytes takes at most, and much more than it does."""

KINDS = [*WRITERS, "output"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind; read only."""
    root = tmp_path_factory.mktemp("samples")
    made = {kind: writer(root / str(i)) for i, (kind, (_, writer)) in enumerate(WRITERS.items())}
    return {**made, "output": write(root / "output.fits", a_batch(3, own=True))}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(kind: str, samples: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(samples[kind], tmp_path / samples[kind].name))


def read(path: Path, kind: str) -> None:
    """Everything that may be asked of a file."""
    is_cut_short(path)
    if kind == "output":
        is_output(path)
        read_output(path)
    else:
        read_spectra(path, WRITERS[kind][0], bitmask=True)


@contextmanager
def few_bytes(most: int = SPARE) -> Iterator[None]:
    """See that no more bytes than these are allocated at any time, used or not."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak:,} bytes"


Headers = list[tuple[int, bytes]]


def headers_of(path: Path) -> Headers:
    """Where each header begins, and its cards."""
    with FitsFile(path) as file:
        return [(hdu.offset - len(hdu.header.raw), hdu.header.raw) for hdu in file.hdus()]


def set_card(path: Path, header: tuple[int, bytes], keyword: str, value: str) -> None:
    """Set a card, or add it if there is room."""
    start, raw = header
    card, end = f"{keyword:8}= {value:>20}".ljust(80).encode(), b"END".ljust(80)
    place = next((i for i in range(0, len(raw), 80) if raw[i : i + 8] == card[:8]), None)
    if place is None:
        place, card = raw.index(end), card + end
    with path.open("r+b", buffering=0) as stream:
        os.pwrite(stream.fileno(), card[: len(raw) - place], start + place)


def test_a_sparse_terabyte(kind: str, path: Path) -> None:
    """As many rows, or pixels, as there is room for."""
    headers = headers_of(path)
    index = next(i for i, (_, raw) in enumerate(headers) if i and b"NAXIS2  =                    0" not in raw)
    whole = path.read_bytes()
    for keyword, value in (("NAXIS2", 67_108_864), ("NAXIS1", 67_108_864), ("NAXIS1", 1 << 36)):
        if keyword.encode() not in headers[index][1]:
            continue
        path.write_bytes(whole)
        set_card(path, headers[index], keyword, str(value))
        os.truncate(path, TERABYTE)
        start = time.monotonic()
        problem = r"HDU \d .*(has .* bytes, where at most|has rows of .*columns|does not begin)"
        with few_bytes(), pytest.raises(SpectrumFileError, match=problem) as caught:
            read(path, kind)
        assert time.monotonic() - start < 5
        assert str(path) in str(caught.value)


EXTREMES = st.one_of(
    st.sampled_from([0, -1, 1, 7, 999, 4097, 99_999, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**20 - 1, -(10**18)]),
    st.integers(-(10**19), 10**20 - 1),
).map(str)
FORMATS = ["'9999999D'", "'9999999A'", "'999999999A'", "'0E      '", "'1PE(999999999)'", "'9999999X'", "'9999M'"]
STRUCTURE = ["NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT", "TFIELDS", "BITPIX", "BZERO", "TZERO2", "BSCALE"]
CARDS = st.one_of(
    st.tuples(st.sampled_from(STRUCTURE), EXTREMES),
    st.tuples(st.integers(1, 12).map("TFORM{}".format), st.sampled_from(FORMATS)),
)


@given(cards=st.lists(st.tuples(st.integers(0, 4), CARDS), min_size=1, max_size=3), sparse=st.booleans())
@settings(max_examples=25)
def test_extreme_cards(
    kind: str, path: Path, samples: dict[str, Path], cards: list[tuple[int, tuple[str, str]]], sparse: bool
) -> None:
    """Whatever the cards of structure say, in a file of its own size or a sparse one of a terabyte."""
    shutil.copy(samples[kind], path)
    headers = headers_of(path)
    for index, card in cards:
        set_card(path, headers[index % len(headers)], *card)
    if sparse:
        os.truncate(path, TERABYTE)
    with few_bytes():
        try:
            read(path, kind)
        except AstraError as error:
            problem = str(error)
        else:
            return
    assert str(path) in problem


def header(*cards: str, blocks: int = 1) -> bytes:
    return b"".join(card.ljust(80).encode() for card in cards).ljust(2880 * blocks - 80) + b"END".ljust(80)


PRIMARY = header("SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0")
EMPTY = (
    "XTENSION= 'IMAGE   '",
    "BITPIX  =                    8",
    "NAXIS   =                    0",
    "PCOUNT  =                    0",
    "GCOUNT  =                    1",
)


def quick(act: Callable[[], object], seconds: float = 5) -> None:
    start = time.monotonic()
    act()
    assert time.monotonic() - start < seconds


def test_headers_of_two_thousand_blocks_are_not_kept(tmp_path: Path) -> None:
    long = PRIMARY + header(*EMPTY, *(f"KEY{i:5}= {i:20}" for i in range(70_000)), blocks=1990)
    (tmp_path / "x.fits").write_bytes(long)
    with few_bytes(40_000_000):  # one takes 6 million bytes, and as much again for the places of its cards
        for number in range(4):
            with (tmp_path / "x.fits").open("r+b", buffering=0) as stream:
                os.pwrite(stream.fileno(), f"{number:8}".encode(), 2880 + 80 * 12 + 10)
            with FitsFile(tmp_path / "x.fits") as file:
                with pytest.raises(SpectrumFileError, match="holds no image"):
                    read_image(file, 1)
                assert "KEY    7" in file.hdu(1).header


def test_a_text_of_seventy_thousand_cards(tmp_path: Path) -> None:
    text = ["OBJID   = '" + "x" * 67 + "&'", *("CONTINUE  '" + "x" * 67 + "&'" for _ in range(70_000))]
    (tmp_path / "x.fits").write_bytes(header("SIMPLE  =                    T", *EMPTY[1:3], *text, blocks=1990))
    with FitsFile(tmp_path / "x.fits") as file:
        quick(lambda: file.hdu(0).header.text("OBJID"))


def test_a_hundred_thousand_hdus(tmp_path: Path) -> None:
    path = tmp_path / "x.fits"
    path.write_bytes(PRIMARY + header(*EMPTY) * 10_001)
    with pytest.raises(SpectrumFileError, match=r"HDU 10000 is one too many: at most 10000"):
        FitsFile(path)


# Compressed files


def pack(path: Path, suffix: str) -> Path:
    """Pack a FITS header and a fifth more zeros than any file may have, into a small file."""
    packed, zeros = path.with_name(f"bomb.fits{suffix}"), bytes(LARGEST // 5)
    if suffix == ".zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("x", PRIMARY + zeros * 6)
        return packed
    packer = bz2.compress if suffix == ".bz2" else gzip.compress
    packed.write_bytes(packer(PRIMARY) + packer(zeros) * 6)
    return packed


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zip"])
def test_compressed_bombs(suffix: str, tmp_path: Path) -> None:
    bomb = pack(tmp_path / "bomb", suffix)
    assert bomb.stat().st_size < 4_000_000
    problem = f"unpacks to more than {LARGEST} bytes"
    with few_bytes(LARGEST + SPARE), pytest.raises(SpectrumFileError, match=problem) as caught:
        quick(lambda: read_spectra(bomb, "apVisit"), 20)
    assert str(bomb) in str(caught.value)


def test_what_unpacks_to_nothing_again_and_again(tmp_path: Path) -> None:
    for suffix, nothing in ((".gz", gzip.compress(b"")), (".bz2", bz2.compress(b""))):
        path = tmp_path / f"x.fits{suffix}"
        path.write_bytes(nothing * 1_000_000)
        with pytest.raises(SpectrumFileError, match="parts with hardly anything in them"):
            quick(lambda path=path: FitsFile(path))


def test_compressed_files_in_parts(tmp_path: Path) -> None:
    """As several programs write them that compress with many threads."""
    whole = WRITERS["spec, SDSS-V"][1](tmp_path).read_bytes()
    for suffix, packer in ((".gz", gzip.compress), (".bz2", bz2.compress)):
        path = tmp_path / f"spec.fits{suffix}"
        parts = [packer(whole[i : i + 5000]) for i in range(0, len(whole), 5000)]
        for after in (b"", packer(b""), b"\0" * 500):
            path.write_bytes(b"".join(parts) + after)
            with FitsFile(path) as file:
                assert file._contents == whole


def test_a_large_file_is_not_unpacked_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.fits.gz"
    path.write_bytes(gzip.compress(PRIMARY))
    os.truncate(path, TERABYTE)
    with few_bytes(), pytest.raises(SpectrumFileError, match=f"has {TERABYTE} bytes, where at most"):
        FitsFile(path)


def test_archives_that_are_packed_in_another_way(tmp_path: Path) -> None:
    """The standard library unpacks them with no bound."""
    path = tmp_path / "x.fits.zip"
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("x", PRIMARY)
        with pytest.raises(SpectrumFileError, match="another method than deflate"):
            FitsFile(path)


# What is no file


@contextmanager
def in_place_of(path: Path, sort: str) -> Iterator[None]:
    """Something else where a file is expected."""
    path.unlink(missing_ok=True)
    match sort:
        case "a FIFO":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case "a device":
            path.symlink_to("/dev/zero")
        case "a link to a FIFO":
            os.mkfifo(path.with_name("fifo"))
            path.symlink_to(path.with_name("fifo"))
        case "a socket":
            with socket.socket(socket.AF_UNIX) as server:
                os.chdir(path.parent)  # addresses of sockets are short
                server.bind(path.name)
                yield
            return
    yield


@pytest.mark.parametrize("sort", ["a FIFO", "a folder", "a device", "a link to a FIFO", "a socket"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2", ".zip"])
def test_what_is_no_file_is_refused_without_waiting(
    sort: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"apVisit.fits{suffix}"
    with in_place_of(path, sort):
        for product in ("apVisit", "apStar", "aspcapStar", "spec", "mwmStar"):
            with pytest.raises(SpectrumFileError, match=f"{sort.removeprefix('a link to ')}.*, not a file") as caught:
                quick(lambda product=product: read_spectra(path, product))
            assert str(path) in str(caught.value)
        with pytest.raises(SpectrumFileError, match="not a file"):
            read_output(path)
        assert not is_output(path)
