"""The language of selections: what it selects, and that it refuses all else by a typed error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster.datamodel.products import product
from astra_dagster.datamodel.selection import make_choice
from astra_dagster.errors import AstraError, InvalidKeyError

VISITS = product("apVisit")
KEYS = [
    VISITS.data_id("DR17", telescope=telescope, field=field, plate=plate, mjd=mjd, fibre=fibre).key
    for telescope, field, plate in (("apo25m", "120+12", 5226), ("apo25m", "121+00", 5227), ("lco25m", "000+02", 9911))
    for mjd in (56000, 56001, 57900)
    for fibre in (1, 2, 300)
]


def parts(key: str) -> dict[str, str]:
    return dict(zip(("release", *VISITS.parts), key.split("/"), strict=True))


@pytest.mark.parametrize(
    ("where", "selects"),
    [
        ({"mjd": 56000}, lambda part: part["mjd"] == "56000"),
        ({"mjd": "56000"}, lambda part: part["mjd"] == "56000"),
        ({"fibre": 1}, lambda part: part["fibre"] == "001"),
        ({"plate": "5226,5227"}, lambda part: part["plate"] in {"5226", "5227"}),
        ({"plate": [5226, "5227"]}, lambda part: part["plate"] in {"5226", "5227"}),
        ({"mjd": "56000..56001"}, lambda part: 56000 <= int(part["mjd"]) <= 56001),
        ({"mjd": "56001.."}, lambda part: int(part["mjd"]) >= 56001),
        ({"mjd": "..56000"}, lambda part: int(part["mjd"]) <= 56000),
        ({"fibre": "2..299"}, lambda part: part["fibre"] == "002"),
        ({"field": "12*"}, lambda part: part["field"].startswith("12")),
        ({"field": "12?+12"}, lambda part: part["field"] == "120+12"),
        ({"fibre": ["1", "200.."], "telescope": "apo*"}, lambda part: part["fibre"] in {"001", "300"}),
    ],
)
def test_what_is_selected(where: dict[str, object], selects: object) -> None:
    selected = VISITS.select(KEYS, [], where)
    if "telescope" in where:
        assert {parts(key)["telescope"] for key in selected} == {"apo25m"}
        assert {parts(key)["fibre"] for key in selected} == {"001", "300"}
    else:
        assert selected == [key for key in KEYS if selects(parts(key))]  # type: ignore[operator]
    assert selected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"colour": "red"}, "apVisit has no colour"),
        ({"mjd": "56000..x"}, "a range is of whole numbers"),
        ({"mjd": "56000..55000"}, "the first is above the last: 55000..56000"),
        ({"mjd": ".."}, "a range is of whole numbers"),
        ({"mjd": "red"}, "mjd cannot be 'red'"),
        ({"mjd": True}, "expected a value, several, a range"),
        ({"mjd": None}, "expected a value"),
        ({"mjd": []}, "expected a value"),
        ({"mjd": {"low": 3}}, "expected a value"),
        ({"mjd": 1.5}, "expected a value"),
    ],
)
def test_what_cannot_be_understood(where: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidKeyError, match=message):
        VISITS.select(KEYS, [], where)


ANYTHING = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=4)


@given(ANYTHING | st.text("0123456789.,*?[]-+"))
def test_anything_selects_or_is_refused(value: object) -> None:
    for name in VISITS.parts:
        try:
            selected = VISITS.select(KEYS, ["DR17"], {name: value})
        except AstraError:
            continue
        assert set(selected) <= set(KEYS)


@given(st.integers(0, 99999), st.integers(0, 99999), st.integers(0, 99999))
def test_ranges_hold_both_ends(low: int, high: int, number: int) -> None:
    low, high = sorted((low, high))
    assert (str(number) in make_choice(f"{low}..{high}", "mjd")) == (low <= number <= high)


@given(st.text("ab[]*?.+", min_size=1).filter(lambda text: ".." not in text and "," not in text))
def test_a_text_without_wildcards_is_itself(text: str) -> None:
    plain = text.replace("*", "a").replace("?", "b")
    assert plain in make_choice(plain, "field")
    assert plain in make_choice(text, "field")  # * stands for a, and ? for b
