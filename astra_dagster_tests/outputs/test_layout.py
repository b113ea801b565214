"""The law of paths: from a partition to its path and back, and what is no path of ours."""

import contextlib
import random
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster import grouped, product, release, releases
from astra_dagster.datamodel.keys import ABSENT
from astra_dagster.errors import AstraError
from astra_dagster.outputs.layout import (
    OwnName,
    Sort,
    file_name,
    is_digest,
    is_family,
    note_name,
    own_name,
    parts_at,
    place_of,
    table_name,
    temporary_name,
    writer_of,
)
from astra_dagster.tasks.groups import Domain, Group
from astra_dagster_tests.datamodel.agreement import some_data_id
from astra_dagster_tests.outputs.written import OUTPUTS, write

FAMILY = "ap_visit_snr"


def keys_at(domain: Domain, texts: tuple[str, ...]) -> list[str]:
    """All keys of a domain whose parts, less those that are absent, are these."""
    keys = []
    for absent in combinations(range(1, len(domain.parts) + 1), len(domain.parts) + 1 - len(texts)):
        rest = iter(texts)
        keys.append("/".join(ABSENT if i in absent else next(rest) for i in range(len(domain.parts) + 1)))
    return keys


def is_key(domain: Domain, key: str) -> bool:
    try:
        return domain.parse_key(key).key == key
    except AstraError:
        return False


def some_keys(release_name: str) -> Iterator[tuple[Group, str]]:
    """A key of each product that a release has, and a group that the file may be in."""
    rng = random.Random(release_name)
    for name in release(release_name).products:
        item, data_id = product(name), None
        with contextlib.suppress(AstraError):  # a template that cannot be resolved
            data_id = some_data_id(name, release_name, rng)
        if data_id and item.parts:
            shared = tuple(part for part in item.parts if rng.random() < 0.5)
            yield Group(item, shared or item.parts[:1]), data_id.key


def back(place: str) -> tuple[str, ...]:
    """Release and parts from the path of an output."""
    folder, _, name = f"{place}.json".rpartition("/")
    named = own_name(FAMILY, folder, name)
    assert named == OwnName(Sort.OUTPUT, place, "json")
    assert own_name(FAMILY, folder, note_name(name)) == OwnName(Sort.NOTE, place, "json")
    texts = parts_at(FAMILY, named.place)
    assert texts is not None
    return texts


@pytest.mark.parametrize("release_name", releases())
def test_of_every_product_a_path_is_that_of_one_key(release_name: str) -> None:
    found = list(some_keys(release_name))
    assert found
    for group, key in found:
        texts = back(place_of(FAMILY, key))
        assert texts == tuple(text for text in key.split("/") if text != ABSENT)
        assert [one for one in keys_at(group.product, texts) if is_key(group.product, one)] == [key]
        of_group = group.key_of(key)
        texts = back(place_of(FAMILY, of_group))
        lacking = {part for part, text in zip(group.product.parts, key.split("/")[1:], strict=True) if text == ABSENT}
        named = dict(zip([part for part in group.parts if part not in lacking], texts[1:], strict=True))
        assert "/".join([texts[0], *(named.get(part, ABSENT) for part in group.parts)]) == of_group


def test_other_files_of_ours() -> None:
    assert own_name(FAMILY, "", "parameters.json") == OwnName(Sort.PARAMETERS, "parameters", "json")
    for suffix in ("parquet", "fits"):
        name = table_name(FAMILY, suffix)
        assert own_name(FAMILY, "", name) == OwnName(Sort.TABLE, f"{FAMILY}_table", suffix)
        assert own_name(FAMILY, "DR17", name) is None
    made = file_name(f"{FAMILY}-DR17-x", "plot", "0123456789ab", "png")
    assert own_name(FAMILY, "DR17", made) == OwnName(Sort.FILE, f"DR17/{FAMILY}-DR17-x", "png", "0123456789ab")
    assert own_name(FAMILY, "DR13", made) is None
    name = temporary_name()
    assert own_name(FAMILY, "DR17/x", name) == own_name(FAMILY, "", name) == OwnName(Sort.TEMPORARY)
    assert writer_of(name) > 0
    assert writer_of("notes.txt") == 0


@given(
    folder=st.lists(st.sampled_from(["DR17", "x", "-", "apo25m"]), max_size=3).map("/".join),
    name=st.one_of(
        st.text(max_size=12),
        st.sampled_from(["parameters.json", "parameters.jsn", f"{FAMILY}.json", "x-DR17-x.json", f"{FAMILY}-DR17.txt"]),
        st.sampled_from([f"{FAMILY}_table.csv", ".astra-1-0123456789ab.tmpx", ".astra-x-0123456789ab.tmp", "x.failed"]),
    ),
)
def test_no_other_name_is_ours(folder: str, name: str) -> None:
    found = own_name(FAMILY, folder, name)
    assert found is None or (found.sort == Sort.PARAMETERS and not folder and name == "parameters.json")


def test_an_output_is_ours_only_in_its_own_folder() -> None:
    assert own_name(FAMILY, "DR17/a", f"{FAMILY}-DR17-a-1.json") is not None
    for folder in ("", "DR17/b", "DR17", "a/DR17"):
        named = own_name(FAMILY, folder, f"{FAMILY}-DR17-a-1.json")
        assert named is None or named.place != "DR17/a/" + f"{FAMILY}-DR17-a-1"
        assert named is None or parts_at(FAMILY, named.place) != ("DR17", "a", "1")


@pytest.mark.parametrize("name", OUTPUTS)
def test_task_and_digest_are_folders(name: str, tmp_path: Path) -> None:
    store, work, written = write(name, tmp_path)
    family, digest, *_ = written.path.relative_to(tmp_path).parts
    assert (family, digest) == (store.task.family, store.digest)
    assert is_family(family)
    assert is_digest(digest)
    place = written.path.relative_to(tmp_path / family / digest).with_suffix("").as_posix()
    assert place == place_of(family, work.data_id.key)


@pytest.mark.parametrize("name", ["", "Work", "0x", "a-b", "a.b", "a" * 101])
def test_other_folders_are_not_ours(name: str) -> None:
    assert not is_family(name)
    assert not is_digest(name)


def test_groups_have_names_of_their_own() -> None:
    domain = grouped(product("spec"), by=("plate", "run2d")).domain
    assert place_of("of_plate", domain.parse_key("DR17/v5_13_2/4055").key) == "DR17/v5_13_2/of_plate-DR17-v5_13_2-4055"
