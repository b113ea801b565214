"""Headers of FITS files: every value as astropy has it."""

import string
from typing import Any

import numpy as np
from astropy.io import fits
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from astra_dagster.fits.header import CARD, Header


def header(text: str) -> Header:
    cards = [line.ljust(CARD) for line in text.strip("\n").split("\n")]
    return Header("".join([*cards, "END".ljust(CARD)]).encode())


def test_values_of_cards() -> None:
    cards = header("""
INTEGER =                   12 / a comment
SIGNED  =                  +12
NEGATIVE=                  -12
NOBLANK =-12
FREE    = -12/comment
BIG     = 27021598150202075
FLOAT   =        154.155120721
POINT   =                   5.
LEADING =                  -.5
LOWER   =                1.5e3
DOUBLE  =            1.5D-0003 / as Fortran writes it
SMALL   =                6E-06
YES     =                    T
NO      =                    F/
TEXT    = 'apo25m  '           / with 'quotes' / and / slashes
PADDED  = '    5226'
QUOTES  = 'O''Neill''s'        / doubled
SLASH   = 'a / b'
EMPTY   = ''
BLANK   = '        '
NOTHING =                      / undefined
ILLEGAL =                  NAN
HEX     =                 0x10
OPEN    = 'no end
COMPLEX = (1.0, 2.0)
INFINITE=               1E9999
NOVALUE   12
COMMENT = 'this is none'
TWICE   =                    1
TWICE   =                    2
""")
    expected: dict[str, Any] = {
        "INTEGER": 12,
        "SIGNED": 12,
        "NEGATIVE": -12,
        "FREE": -12,
        "BIG": 27021598150202075,
        "FLOAT": 154.155120721,
        "POINT": 5.0,
        "LEADING": -0.5,
        "LOWER": 1500.0,
        "DOUBLE": 1.5e-3,
        "SMALL": 6e-6,
        "YES": True,
        "NO": False,
        "TEXT": "apo25m",
        "PADDED": "    5226",
        "QUOTES": "O'Neill's",
        "SLASH": "a / b",
        "EMPTY": "",
        "BLANK": "",
        "TWICE": 1,
        **dict.fromkeys(("NOTHING", "ILLEGAL", "HEX", "OPEN", "COMPLEX", "NOBLANK", "NOVALUE", "ABSENT")),
    }
    for keyword, value in expected.items():
        found = cards.get(keyword)
        assert (found, type(found)) == (value, type(value)), keyword
    assert "TEXT" in cards
    assert "ILLEGAL" in cards
    assert "ABSENT" not in cards
    assert cards.get("INFINITE") == np.inf
    assert cards.text("PADDED") == "5226"
    assert cards.integer("PADDED") == 5226
    assert cards.text("INTEGER") == "12"
    assert [cards.text(name) for name in ("YES", "ILLEGAL", "ABSENT")] == [None] * 3
    assert [cards.integer(name) for name in ("FLOAT", "POINT", "YES", "TEXT", "EMPTY", "ABSENT")] == [None] * 6
    assert cards.number("BIG") == 27021598150202075.0
    assert [cards.number(name) for name in ("INFINITE", "YES", "TEXT", "ILLEGAL", "ABSENT")] == [None] * 5


def test_continued_text() -> None:
    cards = header("""
LONG    = 'a first part, &' / with a comment
CONTINUE  'a second &'
CONTINUE  'and a third.' / and another
LOOSE   = 'an ampersand at the end&'
NEXT    =                    1
BROKEN  = 'begun &'
CONTINUE  'not ended
LAST    = 'nothing follows&'
""")
    assert cards.get("LONG") == "a first part, a second and a third."
    assert cards.get("LOOSE") == "an ampersand at the end&"
    assert cards.get("NEXT") == 1
    assert cards.get("BROKEN") == "begun &"
    assert cards.get("LAST") == "nothing follows&"
    assert Header(b"LAST    = 'nothing follows&'".ljust(CARD)).get("LAST") == "nothing follows&"


TEXTS = st.text(string.ascii_letters + string.digits + " '&/=.-+\"()", max_size=200)
VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**17), 10**17),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
)


@given(values=st.lists(VALUES, min_size=1, max_size=8), comment=st.text(string.ascii_letters + " /&", max_size=20))
@settings(max_examples=300)
def test_headers_that_astropy_writes(values: list[Any], comment: str) -> None:
    # astropy itself gives no such text back: it takes the last & for the mark of a card that follows.
    assume(not any(isinstance(value, str) and value.rstrip().endswith("&") for value in values))
    written = fits.Header()
    for i, value in enumerate(values):
        long = isinstance(value, str) and len(value) > 60
        written[f"KEY{i}"] = value if long else (value, comment[: 60 - len(str(value)) - 10])
    raw = written.tostring()
    ours, theirs = Header(raw.encode()), fits.Header.fromstring(raw)
    for i in range(len(values)):
        value = ours.get(f"KEY{i}")
        assert (value, type(value)) == (theirs[f"KEY{i}"], type(theirs[f"KEY{i}"]))


@given(raw=st.binary(min_size=1, max_size=400))
def test_any_bytes_are_a_header(raw: bytes) -> None:
    cards = Header(b"KEY     = " + raw)
    for keyword in ("KEY", "CONTINUE", ""):
        for value in (cards.get(keyword), cards.number(keyword), cards.integer(keyword), cards.text(keyword)):
            assert value is None or isinstance(value, (bool, int, float, str))
