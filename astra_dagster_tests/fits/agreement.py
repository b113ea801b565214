"""A file as our own reader has it, against astropy: every header, image and table."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from astra_dagster.fits.header import Header
from astra_dagster.fits.reader import FitsFile
from astra_dagster_tests.fits.unchecked import ALL, read_image, read_table


def check_header(header: Header, expected: fits.Header) -> None:
    for keyword in {card.keyword for card in expected.cards} - {"COMMENT", "HISTORY", ""}:
        try:
            value = expected[keyword]
        except fits.VerifyError:  # a card that is not legal
            value = None
        value = None if isinstance(value, fits.card.Undefined) else value
        ours = header.get(keyword)
        assert keyword in header
        assert (ours, type(ours)) == (value, type(value)), keyword


def check_table(file: FitsFile, index: int, expected: fits.FITS_rec) -> None:
    columns = {column.name.lower(): column for column in expected.columns}
    assert list(file.columns(index)) == list(columns)
    ours = read_table(file, index, list(columns), "")
    for name, column in columns.items():
        if column.format.lstrip("0123456789")[0] in "PQ":
            continue
        values, theirs = ours[name], expected[column.name]
        if "X" in column.format:
            values = np.unpackbits(values, axis=-1)[:, : theirs.shape[-1]].astype(bool)
        if theirs.dtype.kind == "U":
            # astropy keeps blanks in front, and splits text where TDIM says so.
            width = theirs.dtype.itemsize // 4
            whole = ["".join(text.ljust(width) for text in row.ravel()).strip() for row in theirs[:, None]]
            assert values.tolist() == whole, name
        else:
            np.testing.assert_array_equal(values.reshape(theirs.shape), theirs, err_msg=name)
        assert values.dtype.kind == theirs.dtype.kind or column.bzero == -128  # signed bytes are integers to us


def check_file(path: Path) -> None:
    with fits.open(path, memmap=False) as expected, FitsFile(path) as file:
        assert len(file.hdus()) == len(expected)
        for index, (hdu, ours) in enumerate(zip(expected, file.hdus(), strict=True)):
            place = hdu.fileinfo()
            padded = -(-ours.size // 2880) * 2880
            assert (ours.index, ours.offset, padded) == (index, place["datLoc"], place["datSpan"])
            assert ours.name == (hdu.name if index else "")
            check_header(ours.header, fits.Header.fromstring(ours.header.raw))
            if isinstance(hdu, fits.BinTableHDU):
                assert ours.kind == "table"
                check_table(file, index, hdu.data)
            elif hdu.data is not None:
                assert ours.kind == "image"
                np.testing.assert_array_equal(read_image(file, index, "", ALL), hdu.data)
