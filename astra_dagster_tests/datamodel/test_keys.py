"""Partition keys: what is accepted, what is refused, and how."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster import product, release, releases
from astra_dagster.errors import (
    AstraError,
    ConfigurationError,
    InvalidKeyError,
    PathMismatchError,
    UnknownProductError,
    UnknownReleaseError,
    UnresolvableTemplateError,
)

GOOD = "DR17/apo25m/120+12/5226/56000/001"


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("apVisit", "release/telescope/field/plate/mjd/fibre"),
        ("ap_star", "release/telescope/field/healpix/obj"),
        ("spec", "release/run2d/plate/mjd/fibre"),
        ("specLite", "release/field/mjd/catalogid"),
    ],
)
def test_documented_order_of_key_parts(name: str, order: str) -> None:
    assert product(name).key_order == order


@pytest.mark.parametrize(
    ("name", "key", "path"),
    [
        (
            "apVisit",
            GOOD,
            "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000/apVisit-dr17-5226-56000-001.fits",
        ),
        (
            "apVisit",
            "DR17/lco25m/000+02/9911/57900/300",
            "dr17/apogee/spectro/redux/dr17/visit/lco25m/000+02/9911/57900/asVisit-dr17-9911-57900-300.fits",
        ),
        (
            "apVisit",
            "DR13/apo25m/-/4913/55837/055",
            "dr13/apogee/spectro/redux/r6/apo25m/4913/55837/apVisit-r6-4913-55837-055.fits",
        ),
        (
            "apVisit",
            "DR19/lco25m/N188/5226/56000/001",
            "dr19/spectro/apogee/redux/1.3/visit/lco25m/N188/5226/56000/apVisit-1.3-lco25m-5226-56000-001.fits",
        ),
        (
            "spec",
            "DR17/26/0266/51602/0031",
            "dr17/sdss/spectro/redux/26/spectra/0266/spec-0266-51602-0031.fits",
        ),
        (
            "spec",
            "DR17/v5_13_2/3586/55181/0500",
            "dr17/eboss/spectro/redux/v5_13_2/spectra/full/3586/spec-3586-55181-0500.fits",
        ),
        (
            "specLite",
            "DR20/15073/59200/4375924118",
            "dr20/spectro/boss/redux/v6_2_1/spectra/daily/lite/015XXX/015073/59200/spec-015073-59200-4375924118.fits",
        ),
        (
            "mwmStar",
            "DR19/67890123/-/-",
            "dr19/spectro/astra/0.6.0/spectra/star/01/23/mwmStar-0.6.0-67890123.fits",
        ),
    ],
)
def test_known_paths(name: str, key: str, path: str) -> None:
    data_id = product(name).parse_key(key)
    assert data_id.relative_path == path
    assert data_id.path("/sas") == Path("/sas") / path
    assert data_id.url == f"https://data.sdss.org/sas/{path}"


def test_proprietary_releases_have_the_other_host() -> None:
    data_id = product("apVisit").data_id(
        "sdsswork", telescope="apo25m", field="200+45", plate=3148, mjd=59162, fibre=33
    )
    assert data_id.url.startswith("https://data.sdss5.org/sas/sdsswork/")


@pytest.mark.parametrize(
    "key",
    [
        "DR17/apo25m/../5226/56000/001",
        "DR17/apo25m/a..b/5226/56000/001",
        "DR17/apo25m/120+12/5226/56000/001/",
        "/DR17/apo25m/120+12/5226/56000/001",
        "DR17/apo25m/$HOME/5226/56000/001",
        "DR17/apo25m/~root/5226/56000/001",
        "DR17/apo25m/*/5226/56000/001",
        "DR17/apo25m/120+12/5226/56000/*",
        "DR17/apo25m/a\0b/5226/56000/001",
        "DR17/apo25m/a\nb/5226/56000/001",
        "DR17/apo25m/120+12/5226/56000/001\n",
        "DR17/apo25m//5226/56000/001",
        "DR17/apo25m/-/5226/56000/001",
        "DR17/apo25m/" + "a" * 5000 + "/5226/56000/001",
        "DR17/apo25m/" + "a" * 200 + "/5226/56000/001",
        "DR17/apo25m/120+12/5226/56000",
        "DR17/apo25m/120+12/5226/56000/001/1",
        "DR17/apo25m/120+12/5226/56000/301",
        "DR17/apo25m/120+12/5226/56000/000",
        "DR17/apo25m/120+12/5226/56000/1",
        "DR17/apo25m/120+12/5226/56000/0001",
        "DR17/apo25m/120+12/05226/56000/001",
        "DR17/apo25m/120+12/5226/5600/001",
        "DR17/apo25m/120+12/5226/\u06656000/001",
        "DR17/apo26m/120+12/5226/56000/001",
        "DR13/apo25m/120+12/5226/56000/001",
        "",
        "DR17",
    ],
)
def test_broken_keys_are_refused_before_any_path(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from astra_dagster.datamodel.templates import Template

    def no_path(*_: object) -> str:
        raise AssertionError("a path was formed")

    monkeypatch.setattr(Template, "format", no_path)
    if key in ("DR17/apo25m/120+12/5226/56000/1", "DR17/apo25m/120+12/05226/56000/001", GOOD.replace("001", "0001")):
        monkeypatch.undo()  # harmless values, only not written canonically: the message gives the right form
    with pytest.raises(InvalidKeyError) as error:
        product("apVisit").parse_key(key)
    assert len(str(error.value)) < 600


@given(st.text(max_size=80))
def test_any_text_is_a_key_or_a_typed_error(text: str) -> None:
    try:
        data_id = product("apVisit").parse_key(text)
    except AstraError:
        return
    assert data_id.key == text


@given(st.integers(1, 5), st.text(min_size=1, max_size=30))
def test_any_text_in_a_part_stays_below_the_root(part: int, text: str) -> None:
    parts = GOOD.split("/")
    parts[part] = text
    try:
        path = product("apVisit").parse_key("/".join(parts)).path("/sas")
    except AstraError:
        return
    assert path.resolve() == path
    assert path.is_relative_to("/sas/dr17")


def test_messages_name_the_nearest() -> None:
    with pytest.raises(UnknownProductError, match="did you mean apVisit"):
        product("apVisits")
    with pytest.raises(UnknownReleaseError, match="did you mean DR7"):
        release("DR71")
    with pytest.raises(UnknownReleaseError):
        product("apVisit").parse_key("WORK/apo25m/120+12/5226/56000/001")
    with pytest.raises(UnknownProductError, match="DR9 has no product 'apVisit'"):
        product("apVisit").template("DR9")
    with pytest.raises(UnresolvableTemplateError, match="BOSSTILELIST_DIR"):
        product("plan-boss").template("DR17")
    with pytest.raises(ConfigurationError, match=r"\[releases"):
        product("apVisit").template("IPL1")
    with pytest.raises(InvalidKeyError, match="has no fibres"):
        product("apVisit").data_id("DR17", fibres=1)


@pytest.mark.parametrize(
    ("name", "ours", "sdss"),
    [
        ("apVisit", {"fibre": 1}, {"fiber": 1}),
        ("spec", {"plate": 7027, "fibre": 1}, {"plateid": 7027, "fiberid": 1}),
        ("specLite", {"field": 15143}, {"fieldid": 15143}),
    ],
)
def test_parts_have_the_names_of_the_sdss_too(name: str, ours: dict[str, int], sdss: dict[str, int]) -> None:
    others: dict[str, dict[str, str | int]] = {
        "apVisit": {"telescope": "apo25m", "field": "120+12", "plate": 5226, "mjd": 56000},
        "spec": {"run2d": "v5_13_2", "mjd": 56448},
        "specLite": {"mjd": 59205, "catalogid": 4544940698},
    }
    release_name, rest = ("DR18" if name == "specLite" else "DR17"), others[name]
    made = product(name).data_id(release_name, **rest, **sdss)
    assert made == product(name).data_id(release_name, **rest, **ours)
    where = {part: [str(value)] for part, value in sdss.items()}
    assert product(name).select([made.key], [], where) == [made.key]
    with pytest.raises(InvalidKeyError, match="is given twice"):
        product(name).data_id(release_name, **rest, **ours, **sdss)


def test_releases_are_given_in_any_case() -> None:
    item = product("apVisit")
    assert release("dr17") is release("DR17")
    assert release("SDSSwork").name == "sdsswork"
    assert item.data_id("dr17", telescope="apo25m", field="120+12", plate=5226, mjd=56000, fibre=1).key == GOOD
    assert item.select([GOOD], ["dr17"], {}) == [GOOD]
    with pytest.raises(InvalidKeyError, match="not canonical") as caught:
        item.parse_key(GOOD.replace("DR17", "dr17"))
    assert GOOD in str(caught.value)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".fz", ".zip"])
def test_compressed_variants_have_the_same_key(suffix: str) -> None:
    data_id = product("apVisit").parse_key(GOOD)
    assert product("apVisit").parse_path(data_id.relative_path + suffix, "DR17") == data_id
    frame = product("spFrame").data_id("DR17", run2d="v5_13_2", plate=3586, br="b", id="1", frame=105)
    assert frame.relative_path.endswith(".fits.gz")
    assert product("spFrame").parse_path(frame.relative_path.removesuffix(".gz"), "DR17") == frame


@pytest.mark.parametrize(
    "path",
    [
        "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000/apVisit-dr17-5226-56001-001.fits",
        "dr17/apogee/spectro/redux/dr17/visit/lco25m/120+12/5226/56000/apVisit-dr17-5226-56000-001.fits",
        "dr17/apogee/spectro/redux/dr17/visit/apo25m/120+12/5226/56000/apVisit-dr17-5226-56000-001.fits.tmp",
        "dr13/apogee/spectro/redux/r6/apo25m/4913/55837/apVisit-r6-4913-55837-055.fits",
    ],
)
def test_contradicting_paths_are_refused(path: str) -> None:
    with pytest.raises(PathMismatchError, match="such a path looks like"):
        product("apVisit").parse_path(path, "DR17")


def test_a_configured_release(extra_release: str) -> None:
    data_id = product("apVisit").data_id(
        extra_release, telescope="apo25m", field="N188", plate=5095, mjd=55844, fibre=128
    )
    assert data_id.key == "APOGEE-r13/apo25m/N188/5095/55844/128"
    assert "/redux/r13/visit/" in data_id.relative_path
    assert "/apVisit-r13-" in data_id.relative_path
    with pytest.raises(UnknownProductError, match="same file as in DR17"):
        product("spec").template(extra_release)


@pytest.mark.parametrize(
    "toml",
    [
        '[releases.DR17]\ntree = "DR16"\napred = "x"',
        '[releases.MINE]\napred = "x"',
        '[releases.MINE]\ntree = "DR17"',
        '[releases.MINE]\ntree = "DR17"\napred = "../x"',
        '[releases.MINE]\ntree = "DR17"\napredd = "x"',
        '[releases."../x"]\ntree = "DR17"\napred = "x"',
        '[releases.A]\ntree = "DR17"\napred = "x"\n[releases.B]\ntree = "DR17"\napred = "x"',
        'releases = "DR17"',
        "[releases",
    ],
)
def test_a_wrong_configuration_is_one_error(toml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "astra.toml").write_text(toml)
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    with pytest.raises(ConfigurationError):
        releases()


def test_releases_in_threads_do_not_mix() -> None:
    keys = [GOOD, "DR13/apo25m/-/5226/56000/001", "DR19/apo25m/120+12/5226/56000/001"] * 200
    expected = {key: product("apVisit").parse_key(key).relative_path for key in keys[:3]}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda key: product("apVisit").parse_key(key).relative_path, keys))
    assert found == [expected[key] for key in keys]


def test_import_and_resolving_leave_the_process_as_it_was(tmp_path: Path) -> None:
    script = """
import os, sys, warnings, pathlib
environment, hooks = dict(os.environ), (sys.excepthook, warnings.showwarning)
import astra_dagster
for release in ("DR13", "DR17", "DR20", "sdsswork"):
    astra_dagster.product("apVisit").template(release)
assert "dagster" not in sys.modules
assert environment == dict(os.environ)
assert hooks == (sys.excepthook, warnings.showwarning)
import astra_dagster.definitions
assert not ({"tree", "sdss_access", "specutils", "matplotlib", "pandas"} & set(sys.modules))
assert not list(pathlib.Path.home().iterdir()), list(pathlib.Path.home().iterdir())
"""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=tmp_path,
    )
