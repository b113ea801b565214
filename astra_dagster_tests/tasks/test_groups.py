"""Which partitions belong to one, how many there should be, and how many are enough."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from astra_dagster import DataID, ap_star, ap_visit, catalogue_column, grouped, matching, product, spec, spectrum_task
from astra_dagster.errors import CatalogueError, InvalidKeyError, SpectrumFileError, TaskError, UnknownReleaseError
from astra_dagster.fits.writer import make_primary
from astra_dagster.tasks.columns import MEMBERSHIP
from astra_dagster.tasks.groups import Members, Minimum, count_needed
from astra_dagster.tasks.snr import ap_visit_snr
from astra_dagster.tasks.task import all_tasks

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


def test_a_group_may_be_a_whole_release() -> None:
    every = grouped(spec, by=())
    assert (every.domain.name, every.domain.key_order) == ("spec_by_release", "release")
    one = every.domain.parse_key("DR17")
    assert (one.key, one.values) == ("DR17", {"release": "DR17"})
    keys = ["DR17/26/0266/51602/0001", "DR16/26/0266/51602/0001", "DR17/v5_13_2/3586/55181/0001"]
    assert every.members(one, None, every.index(keys)) == [keys[0], keys[2]]
    assert every.domain.key_of(keys[1]) == "DR16"
    assert every.domain.select(["DR16", "DR17"], ["DR17"], {}) == ["DR17"]


def test_groups_of_groups() -> None:
    plates = spectrum_task(requires=grouped(spec, by=("run2d", "plate")), version="1")(plate_level)
    reductions = grouped(plates, by="run2d")
    assert (reductions.partitions, reductions.domain) == (plates.domain, grouped(spec, by="run2d").domain)
    keys = ["DR17/26/0266", "DR17/26/0267", "DR17/v5_13_2/3586"]
    one = reductions.domain.parse_key("DR17/26")
    assert reductions.find_members(one, None, reductions.index(keys)) == Members(tuple(keys[:2]), 2)
    with pytest.raises(ValueError, match="spec_by_run2d_plate has no part fibre; its parts are release/run2d/plate;"):
        grouped(plates, by="fibre")
    with pytest.raises(ValueError, match="is grouped by plate, run2d already: require the task itself"):
        grouped(plates, by=("plate", "run2d"))
    star = matching(plates, ap_star, lambda star, path: [{"plate": "0266"}])
    assert star.members(STAR, Path("x"), star.index(keys)) == keys[:1]


def plate_level(spectra: object, parameters: object) -> dict[str, float]:
    """Made from a plate."""
    raise NotImplementedError


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("DR17/26", "its parts are release/run2d/plate"),
        ("DR17/26/266", "plate is written 0266"),
        ("DR17/26/", "plate is empty"),
        ("DR17/../0266", "run2d cannot be"),
        ("DR17/-/0266", "run2d cannot be"),
    ],
)
def test_keys_of_groups_are_canonical(key: str, message: str) -> None:
    with pytest.raises(InvalidKeyError, match=message):
        grouped(spec, by=("run2d", "plate")).domain.parse_key(key)


def test_keys_of_groups_are_of_a_release_that_has_their_parts() -> None:
    domain = grouped(ap_star, by=("field", "healpix")).domain
    assert domain.parse_key("DR17/120+12/-").parts == ("120+12", "-")
    with pytest.raises(InvalidKeyError, match="healpix is written -"):
        domain.parse_key("DR17/120+12/1013")
    with pytest.raises(UnknownReleaseError):
        domain.parse_key("DR99/120+12/-")


def test_groups_of_two_products_by_the_same_parts_are_the_same_partitions() -> None:
    visits, stars = (grouped(item, by=("telescope", "field")) for item in (ap_visit, ap_star))
    fields = spectrum_task(requires=(visits, stars), version="1", name="fields")(plate_level)
    assert {item.domain for item in fields.requires} == {visits.domain}
    one = fields.domain.parse_key("DR17/apo25m/120+12")
    keys = ["DR17/apo25m/120+12/-/2M00000032+5737103", "DR17/apo25m/N2243/-/2M00000032+5737103"]
    assert fields.requires[1].members(one, None, fields.requires[1].index(keys)) == keys[:1]
    assert [item.product for item in fields.requires] == [ap_visit, ap_star]
    belonging = [fields.belonging(item) for item in (ap_visit, ap_star, spec)]
    assert belonging == [visits.domain, grouped(ap_star, by=("telescope", "field")).domain, None]
    assert [belonging[0].key_of(VISITS[0]), belonging[1].key_of(keys[0])] == [one.key, one.key]

    # What a task made of the same group is one, whatever comes first.
    for requires in ((fields, stars), (stars, fields)):
        both = spectrum_task(requires=requires, version="1", name="both")(plate_level)
        assert both.domain == fields.domain
        assert [item.one_to_one for item in both.requires] == [item is fields for item in requires]
    of_stars = spectrum_task(requires=stars, version="1", name="of_stars")(plate_level)
    with pytest.raises(ValueError, match="must have the same partitions"):
        spectrum_task(requires=(fields, of_stars), version="1", name="odd")(plate_level)
    with pytest.raises(ValueError, match="must have the same partitions"):
        spectrum_task(requires=(visits, grouped(ap_star, by="field")), version="1", name="odd")(plate_level)


def night(visit: DataID) -> int | None:
    """Number of the night."""
    return int(visit.values["mjd"]) - 56000 or None


STARS = [f"DR17/apo25m/{field}/-/2M0000003{n}+5737103" for n, field in enumerate(("120+12", "120+12", "N2243", "M67"))]


def test_files_are_grouped_by_what_a_function_says_of_them() -> None:
    nights = grouped(ap_visit_snr, by=night)
    assert (nights.domain.name, nights.domain.key_order) == ("ap_visit_by_night", "release/night")
    assert nights.domain == grouped(ap_visit, by=night).domain != grouped(ap_visit, by="mjd").domain
    keys = [f"DR17/apo25m/120+12/5226/{mjd}/001" for mjd in (56001, 56000, 56001, 56012)]
    assert nights.domain.keys_of([*keys, "DR17/nonsense"]) == ["DR17/1", None, "DR17/1", "DR17/12", None]
    found = nights.find_members(nights.domain.parse_key("DR17/1"), None, nights.index(keys))
    assert found == Members((keys[0], keys[2]), 2)
    with pytest.raises(InvalidKeyError):
        nights.domain.parse_key("DR17/..")


def test_a_group_goes_to_a_worker_without_the_function_that_tells_it() -> None:
    """Which the worker may not find before it has looked where the run finds its modules."""
    one = grouped(ap_visit, by=night).domain.parse_key("DR17/1")
    sent = pickle.dumps(one)
    assert __name__.encode() not in sent
    assert (pickle.loads(sent).key, pickle.loads(sent).values) == (one.key, one.values)


def cluster(star: DataID) -> str | None:
    """Cluster of a star."""
    return {"120+12": " NGC  188 ", "N2243": "", "M67": "M/67"}[star.values["field"]]


def test_values_are_written_as_keys_can_hold_them(caplog: pytest.LogCaptureFixture) -> None:
    domain = grouped(ap_star, by=cluster).domain
    assert domain.keys_of(STARS) == ["DR17/NGC_188", "DR17/NGC_188", None, None]
    assert "ap_star_by_cluster: some files are in no group: cluster cannot be 'M/67'" in caplog.text
    assert domain.parse_key("DR17/NGC_188").values == {"release": "DR17", "cluster": "NGC_188"}


def test_a_function_that_fails_is_told_with_the_file() -> None:
    domain = grouped(ap_star, by=cluster).domain
    with pytest.raises(
        TaskError,
        match=r"cluster failed: KeyError: '120-08' \(line \d+ of .*test_groups\.py, in cluster\) \(key DR17/apo25m",
    ):
        domain.key_of("DR17/apo25m/120-08/-/2M00000032+5737103")


def test_what_files_cannot_be_grouped_by() -> None:
    with pytest.raises(ValueError, match="'<lambda>' cannot be a part of a key: name it"):
        grouped(ap_star, by=lambda star: 1)
    with pytest.raises(ValueError, match="apStar has a part field already"):
        grouped(ap_star, by=catalogue_column("a.csv", "FIELD"))
    plates = spectrum_task(requires=grouped(ap_visit, by="plate"), version="1")(plate_level)
    with pytest.raises(ValueError, match="only files are grouped by night: a group of ap_visit_by_plate has no value"):
        grouped(plates, by=night)
    first, second = (
        spectrum_task(requires=grouped(ap_star, by=catalogue_column(path, "cluster")), version="1", name=name)(
            plate_level
        )
        for path, name in (("a.csv", "first"), ("b.csv", "second"))
    )
    with pytest.raises(ValueError, match="second has groups ap_star_by_cluster, which are other groups elsewhere"):
        all_tasks([first, second])


def test_files_are_grouped_by_a_column_of_a_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_BASE_DIR", str(tmp_path))
    path = tmp_path / "stars.csv"
    path.write_text(
        "APOGEE_ID,field,HEALPIX\n"
        "2M00000030+5737103,120+12,0123\n"
        "2M00000030+5737103,120+12,4\n"  # a second row of the star
        "2M00000031+5737103,elsewhere,123\n"
        "2M00000032+5737103,N2243,123.0\n"
        "2M00000033+5737103,M67,\n"
    )
    healpix = grouped(ap_star, by=catalogue_column("stars.csv", "HEALPIX", name="pixel"))
    assert healpix.domain.name == "ap_star_by_pixel"
    assert healpix.domain.keys_of(STARS) == ["DR17/0123", None, "DR17/123", None]
    assert healpix.domain == grouped(ap_star, by=catalogue_column("stars.csv", "HEALPIX", name="pixel")).domain
    path.write_text("obj,HEALPIX\n2M00000031+5737103,7\n")
    assert healpix.domain.keys_of([*STARS, "DR17/nonsense"]) == [None, "DR17/7", None, None, None]
    path.write_text("obj,PIXEL\n2M00000031+5737103,7\n")
    with pytest.raises(CatalogueError, match=r"no column HEALPIX .*stars.csv\); it has obj, PIXEL"):
        healpix.domain.keys_of(STARS)
    path.unlink()
    with pytest.raises(CatalogueError, match=r"the catalogue is not there .*stars.csv\); apStar is grouped by it"):
        healpix.members(healpix.domain.parse_key("DR17/7"), None, healpix.index(STARS))


def test_a_catalogue_may_be_that_of_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAS_BASE_DIR", str(tmp_path))
    stars = grouped(ap_visit, by=catalogue_column(product("allVisit"), "APOGEE_ID", name="obj"))
    path = product("allVisit").data_id("DR17").path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("plate,mjd,fiberid,apogee_id\n5226,56000,1,2M00000032+5737103\n5226,56000,3,2M00000032+5737103\n")
    one = stars.domain.parse_key("DR17/2M00000032+5737103")
    assert stars.members(one, None, stars.index(VISITS)) == [VISITS[0], VISITS[2]]

    # Another release has no catalogue here.
    index = stars.index([*VISITS, VISITS[0].replace("DR17", "DR16")])
    assert stars.members(one, None, index) == [VISITS[0], VISITS[2]]
    with pytest.raises(CatalogueError, match="the catalogue is not there"):
        stars.members(stars.domain.parse_key("DR16/2M00000032+5737103"), None, index)

    # The visits of a star, and its apStar: groups by values of the same name are the same partitions.
    both = spectrum_task(requires=(stars, grouped(ap_star, by="obj")), version="1", name="both")(plate_level)
    assert both.domain == stars.domain
    assert both.requires[1].members(one, None, both.requires[1].index([STAR.key, *STARS])) == [STAR.key, STARS[2]]
