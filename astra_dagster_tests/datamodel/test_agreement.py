"""Round trips for every template, and agreement with sdss_access."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from astra_dagster import product, release
from astra_dagster.datamodel.corrections import CORRECTIONS
from astra_dagster.datamodel.products import products
from astra_dagster.spectra.readers import READERS
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.datamodel.agreement import (
    RELEASES,
    compare,
    compare_readers,
    draw_readable,
    some_data_id,
    unresolved,
    write_own_releases,
)

_EBOSS_GALAXIES = (
    "portsmouth_stellarmass portsmouth_emlinekin portsmouth_emlinekin_full portsmouth portsmouth_masspdf "
    "portsmouth_stellarmass_plate portsmouth_emlinekin_plate wisconsin_pca wisconsin_pca_plate granada_fsps "
    "granada_fsps_plate"
)
_PLATES = {
    "$BOSSTILELIST_DIR": "plan-boss platePlans-boss boss_survey",
    "$PLATEDESIGN_DIR": "plateDefault",
    "$BOSS_GALAXY_REDUX": _EBOSS_GALAXIES,
}
_CANNON = {"$APOGEE_CANNON": "cannonStar cannonStar-1m"}
_SDSS5 = {
    **_CANNON,
    "$SPECLOG_DIR": "plPlugMapM guidermon sdHdrFix_plate",
    "$PLATELIST_DIR": "plateHoles platePlans",
    "$SPECFLAT_DIR": "pixbiasave boss_pixbias pixflatave badpixels",
    "$APOGEE_RC": "apogee-rc",
}
_CONF = "sdHdrFix confSummary confSummaryF confSummary_test confSummaryF_test"
_BAD_KEY = {"{dib_model | None}": "apMADGICS_out_p5deltachi2_lv"}
UNRESOLVED = {
    "DR13": _PLATES,
    "DR16": {**_PLATES, **_CANNON},
    "DR17": {**_PLATES, **_CANNON},
    "DR19": {**_SDSS5, "$SDSSCORE_DIR": _CONF, "$APOGEE_DATA_S": "asR", **_BAD_KEY},
    "DR20": {**_SDSS5, "$SDSSCORE_DIR": f"{_CONF} spManCal", "$APOGEE_DATA_S": "asR", **_BAD_KEY},
    "sdsswork": {
        **_SDSS5,
        "$SDSSCORE_DIR": f"{_CONF} spManCal",
        "needs aspcap": "allPlates aspcapField aspcapStar aspcapStar-1m",
    },
}
"""Templates that lead nowhere: what is missing, and whose."""


def test_every_name_of_the_tree_is_a_product() -> None:
    assert len(products()) == 856
    assert sum(len(item.releases) for item in products().values()) == 4920
    assert len({item.asset_name for item in products().values()}) == 856
    for name, item in products().items():
        assert product(name) == product(item.asset_name) == item
        assert item.asset_name.replace("_", "").isalnum()
        assert all(name in release(tree).products for tree in item.releases)


@pytest.mark.parametrize("name", RELEASES)
def test_unresolved_templates_are_known_with_their_reason(name: str) -> None:
    expected = {item: why for why, items in UNRESOLVED[name].items() for item in items.split()}
    found = unresolved(name)
    assert set(found) == set(expected)
    for item, why in expected.items():
        assert why in found[item]


@pytest.mark.parametrize("name", RELEASES)
@given(rng=st.randoms(use_true_random=False))
@settings(max_examples=4)
def test_key_to_path_and_back(name: str, rng: random.Random) -> None:
    for item in release(name).products:
        if item in unresolved_names(name):
            continue
        data_id = some_data_id(item, name, rng)
        if data_id is None:
            continue
        again = product(item).parse_key(data_id.key)
        assert again == data_id
        assert again.relative_path == data_id.relative_path
        assert product(item).parse_path(data_id.relative_path, name) == data_id
        assert product(item).data_id(**data_id.values) == data_id


def unresolved_names(name: str) -> set[str]:
    return {item for items in UNRESOLVED[name].values() for item in items.split()}


@pytest.mark.parametrize("name", RELEASES)
def test_agrees_with_sdss_access(name: str) -> None:
    templates, compared, different, refused = compare(name)
    # But for the names that the tree has wrong, which are those of the archive here.
    assert {item for item, _, _ in different} == set(CORRECTIONS.get(name, ()))
    assert refused == []
    assert templates + len(unresolved_names(name)) == len(release(name).products)
    assert compared > 2.9 * templates


NOWHERE = {("DR8", "spec-lite"), ("DR8", "spPlate"), ("IPL3", "aspcapStar"), ("IPL4", "aspcapStar")}
"""Products with a reader, and trees whose templates of them lead nowhere, as a variable is not defined."""


def test_every_product_with_a_reader_agrees_in_every_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "astra.toml").write_text(write_own_releases())
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    same, different, nowhere = compare_readers()
    corrected = {(tree, name) for tree, names in CORRECTIONS.items() for name in names}
    assert different == {(tree, name) for tree, name in corrected if name in READERS}
    assert nowhere == NOWHERE
    assert same | different | nowhere == {(tree, name) for name in READERS for tree in product(name).releases}


def test_every_product_with_a_reader_is_discovered_in_every_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "astra.toml").write_text(write_own_releases())
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))
    for (tree, name), (data_id,) in draw_readable(1)[0].items():
        root = tmp_path / tree / name
        path = data_id.path(root)
        path.parent.mkdir(parents=True)
        path.write_text("")
        files, _ = find_files(product(name), data_id.release, root)
        assert [(file.data_id, file.path) for file in files] == [(data_id, path)]
