"""Names of real files, as found in public, are read and written, and found on disk."""

from pathlib import Path

import pytest

from astra_dagster import product, release
from astra_dagster.datamodel.corrections import CORRECTIONS
from astra_dagster.datamodel.tree import _merge_sections, tree
from astra_dagster.errors import PathMismatchError, UnknownProductError
from astra_dagster.spectra.readers import READERS
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.datamodel.real_names import RealName, configuration, real_names

NAMES = real_names()


@pytest.fixture(autouse=True)
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Releases of other reductions, and of internal releases."""
    (tmp_path / "astra.toml").write_text(configuration())
    monkeypatch.setenv("ASTRA_CONFIG", str(tmp_path / "astra.toml"))


@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{name.product}-{name.key}")
def test_a_real_name_and_its_key_are_the_same(name: RealName) -> None:
    data_id = product(name.product).parse_path(name.path, name.release)
    assert data_id.key == name.key
    assert product(name.product).parse_key(name.key) == data_id
    assert product(name.product).parse_key(name.key).relative_path == name.path
    assert product(name.product).data_id(**data_id.values) == data_id


def test_every_correction_is_one_and_led_to_by_a_real_name() -> None:
    found = {(name.tree, name.product) for name in NAMES}
    for tree_name, templates in CORRECTIONS.items():
        for item, template in templates.items():
            assert tree(tree_name).templates[item] == template != _merge_sections(tree_name)["PATHS"][item]
            same = {(name, item) for name, others in CORRECTIONS.items() if others.get(item) == template}
            assert same & found or item == "aspcapStar-1m"


@pytest.mark.parametrize("item", READERS)
def test_there_are_real_names_of_every_product_that_can_be_read(item: str) -> None:
    assert {name.product for name in NAMES} >= {item}
    for name in NAMES:
        assert name.source
        assert name.found in {"whole", "put together"}


@pytest.mark.parametrize(
    ("item", "path"),
    [
        ("spec", "dr12/boss/spectro/redux/v5_7_0/spectra/full/3655/spec-3655-55240-0040.fits"),
        ("spec", "dr12/boss/spectro/redux/v5_7_0/spectra/lite/3655/spec-3655-55240-0040.fits"),
        ("spec", "dr17/eboss/spectro/redux/v5_13_2/spectra/3586/spec-3586-55181-0016.fits"),
        ("aspcapStar", "dr13/apogee/spectro/redux/r6/stars/l30e/l30e.2/4462/aspcapStar-l30e.2-2M19535443+4424541.fits"),
        ("specLite", "dr20/spectro/boss/redux/v6_2_1/spectra/daily/lite/112360/60000/spec-112360-60000-1.fits"),
    ],
)
def test_names_that_the_archive_does_not_have(item: str, path: str) -> None:
    with pytest.raises(PathMismatchError):
        product(item).parse_path(path, path.partition("/")[0].upper())


def test_a_mirror_that_follows_the_tree_has_a_folder_more(tmp_path: Path) -> None:
    path = "dr17/sdss/spectro/redux/26/spectra/full/0751/spec-0751-52251-0160.fits"
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    ((file,), skipped) = find_files(product("spec"), "DR17", tmp_path)
    assert (file.data_id.key, file.path, skipped) == ("DR17/26/0751/52251/0160", tmp_path / path, [])
    assert file.data_id.existing_path(tmp_path) == file.path
    as_archived = file.data_id.path(tmp_path)
    assert as_archived == tmp_path / path.replace("full/", "")
    as_archived.parent.mkdir(parents=True)
    as_archived.touch()
    assert file.data_id.existing_path(tmp_path) == as_archived


@pytest.mark.parametrize("release_name", sorted({name.release for name in NAMES}))
def test_real_names_are_found_on_disk(release_name: str, tmp_path: Path) -> None:
    names = [name for name in NAMES if name.release == release_name]
    for name in names:
        (tmp_path / name.path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name.path).touch()
    for item in {name.product for name in names}:
        found, skipped = find_files(product(item), release_name, tmp_path)
        expected = {name.key for name in names if name.product == item}
        assert {file.data_id.key for file in found} >= expected
        assert len(found) == len({file.path for file in found})
        assert skipped == [] or item == "specLite_coadd"  # whose folders may be called anything


def test_full_and_lite_spectra_are_kept_apart(tmp_path: Path) -> None:
    for folder in ("boss/spectro/redux/v5_7_0/spectra/3655", "boss/spectro/redux/v5_7_0/spectra/lite/3655"):
        (tmp_path / "dr12" / folder).mkdir(parents=True)
        (tmp_path / "dr12" / folder / "spec-3655-55240-0040.fits").touch()
    for item, parent in (("spec", "spectra"), ("spec-lite", "lite")):
        (file,), skipped = find_files(product(item), "DR12", tmp_path)
        assert (file.path.parent.parent.name, skipped) == (parent, [])


def test_optical_spectra_have_other_products_from_dr18_on() -> None:
    for name in ("DR18", "DR19", "DR20"):
        assert {"specLite", "specFull"} <= set(release(name).products)
        with pytest.raises(UnknownProductError, match="specLite"):
            product("spec-lite").template(name)
