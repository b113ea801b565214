"""Parameters through a chain of tasks: what a task shares with those that it requires, and what is set of any link."""

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest

from astra_dagster import Parameters, ap_star, grouped, matching, parameter, spectrum_task
from astra_dagster.errors import DeclarationError, ParameterError
from astra_dagster.outputs.digests import find_setting, list_changes
from astra_dagster.outputs.store import OutputStore
from astra_dagster.tasks.continuum import ap_star_continuum
from astra_dagster.tasks.inputs.requirement import Requirement
from astra_dagster.tasks.registry import set_together, tell_kept
from astra_dagster.tasks.task import Task, all_tasks


class Orders(Parameters):
    order: int = 3
    window: float = parameter(1.0, minimum=0)


def work(*inputs: object) -> Mapping[str, Any]:
    return {"n": np.ones(3)}


@spectrum_task(requires=ap_star_continuum.sharing("order"), parameters=Orders, version="1")
def depth(spectra, parameters):
    return work(spectra)


@spectrum_task(requires=depth.sharing("order"), parameters=Orders, version="1")
def width(depths, parameters):
    return {"order": [parameters.order] * 3}


@spectrum_task(requires=ap_star_continuum, parameters=Orders, version="1")
def alone(spectra, parameters):
    return work(spectra)


def task(requires: object, name: str = "made", kind: type[Parameters] = Orders, **keywords: Any) -> Task:
    return spectrum_task(requires, version="1", parameters=kind, name=name, **keywords)(work)


def orders(task: Task) -> dict[str, int]:
    """The order of each task of a chain that has one."""
    return {item.name: item.values().as_dict()["order"] for item in task.chain if "order" in item.values().as_dict()}


def test_a_shared_parameter_goes_through_all_links() -> None:
    assert orders(width) == {"ap_star_continuum": 3, "depth": 3, "width": 3}
    set_ = width.setting(order=7)
    assert orders(set_) == {"ap_star_continuum": 7, "depth": 7, "width": 7}
    assert orders(width) == {"ap_star_continuum": 3, "depth": 3, "width": 3}
    assert set_.required_digests["depth"] == depth.digest(depth.values({"order": 7}))
    assert depth.setting(order=7).required_digests == {"ap_star_continuum": ap_star_continuum.digest(seven())}
    assert set_.digest(set_.values()) == width.digest(width.values({"order": 7}))
    assert width.setting(order=3) is width
    assert width.setting(window=2.0).upstream == width.upstream


def seven() -> Any:
    return ap_star_continuum.values({"order": 7})


def test_a_store_of_outputs_has_the_parameters_of_the_chain(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, width, width.values({"order": 7}))
    assert orders(store.task) == {"ap_star_continuum": 7, "depth": 7, "width": 7}
    assert OutputStore(tmp_path, width, width.values()).task is width
    store.prepare()
    found = find_setting(tmp_path, width, store.digest)
    assert found is None  # the digest of what it requires is not there
    for item in store.task.chain:
        OutputStore(tmp_path, item, item.values()).prepare()
    found = find_setting(tmp_path, width, store.digest)
    assert found is not None
    assert orders(found) == orders(store.task)
    assert find_setting(tmp_path, width, "0123456789ab") is None


def test_a_default_of_its_own_requires_a_variant() -> None:
    class Five(Parameters):
        order: int = 5
        L: float = 1400

    made = task(ap_star_continuum.sharing("order", "L"), kind=Five)
    assert orders(made) == {"ap_star_continuum_order_5": 5, "made": 5}
    assert made.upstream[0].family == "ap_star_continuum"
    assert orders(made.setting(order=7)) == {"ap_star_continuum_order_5": 7, "made": 7}
    nine = width.variant("nine", order=9)
    assert orders(nine) == {"ap_star_continuum_order_9": 9, "depth_order_9": 9, "width_nine": 9}
    assert nine.digest(nine.values()) == width.digest(width.values({"order": 9}))
    assert orders(width.with_parameters(order=9))["width_order_9"] == 9
    assert list(all_tasks([width, nine])) == [*orders(width), *orders(nine)]


@pytest.mark.parametrize(
    "of",
    [
        lambda item: item,
        lambda item: grouped(item, by="telescope"),
        lambda item: matching(item, ap_star, lambda star, path: []),
    ],
)
def test_every_sort_of_requirement_shares(of: Callable[[Requirement], Requirement]) -> None:
    made = task(of(ap_star_continuum.sharing("order")))
    assert made.requires[0].one_to_one == (made.requires[0] == ap_star_continuum.sharing("order"))
    assert orders(made.setting(order=7)) == {"ap_star_continuum": 7, "made": 7}


def test_without_names_all_that_both_have_is_shared() -> None:
    class Both(Parameters):
        L: float = 1400.0
        order: int = 3
        other: int = 1

    made = task(ap_star_continuum.sharing(), kind=Both)
    assert made.requires[0].shared == ("order", "L")
    assert made.setting(L=900.0, other=2).upstream[0].values().as_dict()["L"] == 900.0


class Nothing(Parameters):
    nothing: int = 1


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: ap_star_continuum.sharing("ordr"), "ap_star_continuum has no parameter 'ordr'; did you mean order?"),
        (lambda: task(ap_star_continuum.sharing("L")), "made has no parameter L to share with ap_star_continuum"),
        (lambda: task(ap_star_continuum.sharing(), kind=Nothing), "made has no parameter reject to share with ap_star"),
        (
            lambda: task(ap_star_continuum.sharing("order"), kind=Bad),
            "ap_star_continuum: order cannot be 99; it must be at least 1",
        ),
        (lambda: task(ap_star, output="pickle"), "made cannot have the output 'pickle'; expected json or fits"),
    ],
)
def test_what_makes_no_sense_is_refused_where_it_is_declared(declare: Callable[[], object], message: str) -> None:
    with pytest.raises((DeclarationError, ParameterError), match=message):
        declare()


class Bad(Parameters):
    order: int = 99


def test_any_link_can_be_set() -> None:
    set_ = alone.setting({"ap_star_continuum.order": 7})
    assert orders(set_) == {"ap_star_continuum": 7, "alone": 3}
    assert set_.digest(set_.values()) != alone.digest(alone.values())
    assert alone.setting({"ap_star_continuum.order": 3, "alone.order": 3}) is alone
    assert orders(alone.setting({"alone.order": 5})) == {"ap_star_continuum": 3, "alone": 5}
    above = task(alone, name="above")
    assert orders(above.setting({"ap_star_continuum.order": 7}, order=4)) == {
        "ap_star_continuum": 7,
        "alone": 3,
        "above": 4,
    }
    variant = above.variant("x", **{"ap_star_continuum.order": 7})
    assert [item.name for item in variant.chain] == [
        "ap_star_continuum_order_7",
        "alone_ap_star_continuum_order_7",
        "above_x",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ap_star_continum.order": 7}, "alone requires no task 'ap_star_continum'; did you mean ap_star_continuum"),
        ({"ap_star_continuum.ordr": 7}, "ap_star_continuum: no parameter 'ordr'; did you mean order"),
        ({"ap_star_continuum.order": 99}, "ap_star_continuum: order cannot be 99; it must be"),
        ({"alone.ordr": 7}, "alone: no parameter 'ordr'; did you mean order"),
        ({"ordr": 7}, "^no parameter 'ordr'; did you mean order"),
    ],
)
def test_an_unknown_task_or_name_is_told_with_the_nearest(values: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        alone.setting(values)


def test_a_parameter_that_only_a_required_task_has_is_told_with_that_task() -> None:
    above = task(alone, kind=Nothing)
    for name, link in (("order", "alone"), ("L", "ap_star_continuum")):
        with pytest.raises(ParameterError, match=rf"made has no parameter '{name}'; set {link}\.{name}$"):
            above.setting({name: 7})


def test_what_is_shared_is_set_where_it_comes_from() -> None:
    with pytest.raises(ParameterError, match=r"ap_star_continuum has its order from depth; set depth\.order"):
        width.setting({"ap_star_continuum.order": 7})
    assert orders(width.setting({"depth.order": 7, "width.order": 7, "ap_star_continuum.order": 7}))["depth"] == 7


def test_a_task_is_not_needed_with_two_values() -> None:
    """Each of its partitions has one record."""
    made = task((ap_star_continuum.sharing("order"), alone))
    with pytest.raises(ParameterError, match="ap_star_continuum is needed with order=7 and with order=3; set ap_star_"):
        made.setting(order=7)
    assert set(orders(made.variant("x", order=7))) == {
        "ap_star_continuum",
        "ap_star_continuum_order_7",
        "alone",
        "made_x",
    }


def test_two_tasks_of_one_name_are_refused_if_they_differ_in_what_they_require() -> None:
    with pytest.raises(ValueError, match="two tasks named made"):
        all_tasks([task(ap_star_continuum), task(ap_star_continuum.with_parameters(order=5))])


def test_stages_have_the_same_parameters() -> None:
    staged = task(ap_star, name="staged", stages=3)
    assert set(orders(staged.setting(order=7)).values()) == {7}
    assert set(orders(staged.variant("x", order=9))) == {"staged_stage1_order_9", "staged_stage2_order_9", "staged_x"}
    for task_ in (task(ap_star, name="bare", stages=2, kind=Empty), staged):
        assert pickle.loads(cloudpickle.dumps(task_)).digest(task_.values()) == task_.digest(task_.values())


class Empty(Parameters):
    pass


def test_a_worker_has_the_parameters_of_the_run() -> None:
    for one in (width.setting(order=7), alone.setting({"ap_star_continuum.order": 7}), width.variant("x", order=9)):
        there = pickle.loads(pickle.dumps(one))
        assert orders(there) == orders(one)
        assert there.digest(there.values()) == one.digest(one.values())
        assert there.function is one.function
    assert pickle.loads(pickle.dumps(width)) is width


def test_a_file_of_values_is_read_once(tmp_path: Path) -> None:
    """A worker may be on another machine."""
    file = tmp_path / "regions"
    file.write_text("15100 15200\n")
    set_ = alone.setting({"ap_star_continuum.continuum_regions": str(file)})
    file.unlink()
    assert pickle.loads(pickle.dumps(set_)).upstream[0].values().continuum_regions == ((15100.0, 15200.0),)


def test_what_several_tasks_have_is_set_of_all_of_them() -> None:
    two = [ap_star_continuum, alone]
    assert [orders(item) for item in set_together(two, {"order": 7})] == [
        {"ap_star_continuum": 7},
        {"ap_star_continuum": 7, "alone": 7},
    ]
    (_, other) = set_together(two, {"window": 2.0})
    assert other.values() == Orders(window=2.0)
    assert set_together(two, {}) == two
    assert orders(set_together([depth, ap_star_continuum], {"order": 7})[0])["ap_star_continuum"] == 7
    with pytest.raises(ParameterError, match="no parameter 'ordr' in ap_star_continuum and alone; did you mean order"):
        set_together(two, {"ordr": 7})
    with pytest.raises(ParameterError, match=r"require no task 'alne'; did you mean alone"):
        set_together(two, {"alne.order": 7})


def test_who_keeps_a_parameter_that_another_was_given_is_told() -> None:
    def told(item: Task, values: dict[str, object]) -> list[str]:
        return tell_kept([item], [item.setting(values)])

    (line,) = told(alone, {"order": 7})
    assert line == (
        "order=7 is that of alone; ap_star_continuum keeps order=3: --set ap_star_continuum.order=7, or sharing"
    )
    assert told(alone, {"order": 7, "ap_star_continuum.order": 7}) == []
    assert told(alone, {"order": 7, "ap_star_continuum.order": 5}) == []
    assert told(alone, {"window": 2.0}) == told(width, {"order": 7}) == told(alone, {}) == []


def test_digests_of_a_chain() -> None:
    """These must never change: they are in the paths of results that people have."""
    assert alone.digest(alone.values()) == depth.digest(depth.values()) == "2ccf6fe41c07"
    assert alone.digest(alone.values({"order": 7})) == "ae3b63c9b83c"
    five = task(ap_star_continuum.with_parameters(order=5))
    assert five.digest(five.values()) == "3f638d01035a"
    staged = task(ap_star, name="st", stages=3)
    assert staged.digest(staged.values()) == "8c8be1860aa9"


def compare(low: int, high: int) -> Task:
    variants = [ap_star_continuum.variant(f"of{order}", order=order) for order in (low, high)]
    return spectrum_task(requires=tuple(variants), version="1", name="compare")(lambda one, other: work())


def test_two_variants_of_one_task_are_both_part_of_a_digest(tmp_path: Path) -> None:
    both = compare(3, 5)
    assert set(both.required_digests) == {"ap_star_continuum", "ap_star_continuum#2"}
    assert len({one.digest(one.values()) for one in (both, compare(7, 5), compare(3, 7), compare(5, 3))}) == 4
    store = OutputStore(tmp_path, both, both.values())
    for item in both.chain:
        OutputStore(tmp_path, item, item.values()).prepare()
    store.prepare()
    assert find_setting(tmp_path, both, store.digest) is both
    now = compare(3, 7)
    assert list_changes(tmp_path, store.digest, now) == ("ap_star_continuum_of7.order 5 -> 7",)
    assert find_setting(tmp_path, now, store.digest) is not None
