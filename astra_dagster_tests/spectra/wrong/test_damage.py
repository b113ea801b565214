"""Files that were cut short or changed, anywhere: an error that says what is wrong, or a valid batch."""

import itertools
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra_dagster.errors import CutShortError
from astra_dagster.spectra.readers import read_spectra
from astra_dagster_tests.mirrors import find_some
from astra_dagster_tests.spectra.wrong.files import (
    NEEDED,
    OPTIONS,
    changed,
    family,
    layout,
    survives,
)


def around_edges(path: Path, distances: Iterable[int]) -> list[int]:
    """Places in the file at distances from where headers and data begin and data end."""
    size = path.stat().st_size
    places = {edge + distance for hdu in layout(path) for edge in hdu for distance in distances}
    return sorted(place for place in places if 0 <= place < size)


def check_truncations(path: Path, product: str) -> None:
    """Cut a file shorter and shorter."""
    cuts, needed = around_edges(path, (-1, 0, 1, 80, 2880)), layout(path)[NEEDED[family(product)]][2]
    ends = {header for header, _, _ in layout(path)}
    flux = read_spectra(path, product).flux
    for cut in reversed(cuts):
        os.truncate(path, cut)
        if cut not in ends:
            with pytest.raises(CutShortError, match="is incomplete"):
                read_spectra(path, product, wavelength=False)
        elif cut < needed:
            assert not survives(path, product), cut
            survives(path, product, wavelength=False, bitmask=True)
        else:
            np.testing.assert_array_equal(read_spectra(path, product).flux, flux)


def test_truncation(path: Path, product: str) -> None:
    check_truncations(path, product)


def test_truncation_of_real_files(real_mirrors: list[Path], tmp_path: Path) -> None:
    for product, sources in find_some(real_mirrors).items():
        for source in sources:
            check_truncations(Path(shutil.copy(source, tmp_path / source.name)), product)


def check_flips(path: Path, product: str) -> None:
    # The last columns of the values of the first cards are among these places: sizes and types.
    places = around_edges(path, (-1, 0, 1, 9, 10, 29, 109, 189, 269, 349))
    contents = path.read_bytes()
    options = itertools.cycle(OPTIONS)
    with path.open("r+b", buffering=0) as stream:
        for place in places:
            for flip in (0x01, 0x80, contents[place] ^ ord("9")):
                os.pwrite(stream.fileno(), bytes([contents[place] ^ flip]), place)
                survives(path, product, **next(options))
            os.pwrite(stream.fileno(), contents[place : place + 1], place)
    assert path.read_bytes() == contents


def test_flipped_bytes_at_the_edges(path: Path, product: str) -> None:
    check_flips(path, product)


def test_flipped_bytes_at_the_edges_of_real_files(real_mirrors: list[Path], tmp_path: Path) -> None:
    for product, sources in find_some(real_mirrors).items():
        source = sources[-1]
        check_flips(Path(shutil.copy(source, tmp_path / source.name)), product)


# Legal characters make legal cards of other values, which get further than nonsense does.
BYTES = st.one_of(st.sampled_from(b"0123456789 TFEDAIJKLX'-+.=&"), st.integers(0, 255))


@given(data=st.data())
@settings(max_examples=80)
def test_changed_bytes_in_headers(path: Path, product: str, data: st.DataObject) -> None:
    changes = {}
    for _ in range(data.draw(st.integers(1, 4))):
        start, end, _ = data.draw(st.sampled_from(layout(path)[: NEEDED[family(product)] + 2]))
        changes[data.draw(st.integers(start, end - 1))] = bytes([data.draw(BYTES)])
    with changed(path, changes):
        for options in OPTIONS:
            survives(path, product, **options)


@given(data=st.data())
@settings(max_examples=80)
def test_changed_digits_of_cards(path: Path, product: str, data: st.DataObject) -> None:
    """Other digits where digits are: other sizes, numbers of columns, scales, grids."""
    contents = path.read_bytes()
    start, end, _ = data.draw(st.sampled_from(layout(path)[: NEEDED[family(product)] + 2]))
    digits = [place for place in range(start, end) if contents[place : place + 1].isdigit()]
    changes = {}
    for _ in range(data.draw(st.integers(1, 3))):
        changes[data.draw(st.sampled_from(digits))] = data.draw(st.sampled_from([b"0", b"1", b"2", b"9", b"-", b" "]))
    with changed(path, changes):
        for options in OPTIONS:
            survives(path, product, **options)


@given(data=st.data())
@settings(max_examples=25)
def test_changed_bytes_in_data(path: Path, product: str, data: st.DataObject) -> None:
    place = st.integers(2880, path.stat().st_size - 9)
    with changed(path, data.draw(st.dictionaries(place, st.binary(min_size=8, max_size=8), min_size=1, max_size=20))):
        survives(path, product, bitmask=True)
