"""Which partitions belong to one, how many there should be, and how many are enough."""

from pathlib import Path
from typing import Any

import pytest

from astra_dagster import ap_star, ap_visit, grouped, matching, spec, spectrum_task
from astra_dagster.errors import SpectrumFileError
from astra_dagster.fits.writer import make_primary
from astra_dagster.tasks.columns import MEMBERSHIP
from astra_dagster.tasks.groups import Members, Minimum, count_needed
from astra_dagster.tasks.snr import ap_visit_snr

STAR = ap_star.data_id("DR17", telescope="apo25m", field="120+12", obj="2M00000032+5737103")
VISITS = [f"DR17/apo25m/120+12/5226/56000/00{number}" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("minimum", "expected", "needed"),
    [
        (1, 5, 1),
        (3, 5, 3),
        (3, 2, 3),
        (0.5, 5, 3),
        (0.1, 5, 1),
        (0.7, 10, 7),
        (1.0, 5, 5),
        ("all", 5, 5),
        ("all", 0, 1),
    ],
)
def test_how_many_are_enough(minimum: Minimum, expected: int, needed: int) -> None:
    assert count_needed(minimum, expected) == needed


@pytest.mark.parametrize("minimum", [0, -1, 0.0, 1.5, True, "some", None])
def test_what_is_no_minimum(minimum: Any) -> None:
    with pytest.raises(ValueError, match=r'a number from 1, a fraction up to 1.0, or "all", not'):
        grouped(spec, by="plate", minimum=minimum)
    with pytest.raises(ValueError, match="minimum is a number"):
        matching(spec, ap_star, lambda star, path: [], minimum=minimum)


def test_every_registered_file_of_a_group_is_expected() -> None:
    plates = grouped(ap_visit, by="plate")
    found = plates.find_members(plates.domain.parse_key("DR17/5226"), None, plates.index(VISITS))
    assert found == Members(tuple(VISITS), 3)


def test_every_file_that_another_names_is_expected_once_registered_or_not() -> None:
    def find(star: object, path: Path) -> list[dict[str, str]]:
        return [{"plate": "5226"}, {"plate": "5226", "fibre": "001"}, *2 * [{"plate": "5227"}], {"plate": "5228"}]

    found = matching(ap_visit, ap_star, find).find_members(
        STAR, Path("x"), matching(ap_visit, ap_star, find).index(VISITS)
    )
    assert found == Members(tuple(VISITS), 3 + 2)


def test_a_header_says_how_many_there_should_be(tmp_path: Path) -> None:
    path = tmp_path / "star.fits"
    path.write_bytes(make_primary([("NVISITS", 5, "")]))
    of_plate = matching(ap_visit, ap_star, lambda star, path: [{"plate": "5226"}], expected="NVISITS")
    assert of_plate.find_members(STAR, path, of_plate.index(VISITS)) == Members(tuple(VISITS), 5)
    for card in (("NVISITS", -1, ""), ("NVISITS", 2.5, ""), ("VISITS", 5, "")):
        path.write_bytes(make_primary([card]))
        with pytest.raises(SpectrumFileError, match=r"NVISITS does not say how many .*star.fits"):
            of_plate.find_members(STAR, path, of_plate.index(VISITS))


def test_results_of_many_have_two_columns_more() -> None:
    def of(requires: Any, **columns: str) -> Any:
        return spectrum_task(requires=requires, version="1", name="made", columns=columns)(lambda *given: None)

    many = grouped(ap_visit_snr, by="plate")
    assert of(many, snr="").promised == ("snr", "members", "expected")
    assert of(many, members="mine", snr="").promised == ("members", "snr", "expected")
    assert of(many, members="mine").result_columns["members"].description == "mine"
    assert (of(many).promised, of(many).result_columns) == ((), dict(MEMBERSHIP))
    assert of(ap_visit_snr, snr="").promised == ("snr",)
    assert of(of(many, snr=""), snr="").promised == ("snr",)  # one for one
