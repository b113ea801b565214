"""Parameters: checked, and with a digest that depends on nothing else."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster.errors import ParameterError
from astra_dagster.tasks.parameters import Parameters, digest, parameter
from astra_dagster_tests.tasks.sample import Sample


def test_digest_is_stable_across_processes_and_hash_seeds() -> None:
    script = (
        "from astra_dagster.tasks.parameters import digest;from astra_dagster_tests.tasks.sample import Sample;"
        "print(digest(Sample().as_dict()), digest(Sample(width=2, regions=[1, 3]).as_dict()))"
    )
    expected = f"{digest(Sample().as_dict())} {digest(Sample(width=2.0, regions=(1.0, 3.0)).as_dict())}"
    for seed in "01":
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert run.stdout.strip() == expected
    assert digest(Sample().as_dict()) == "dd879edd66ff"


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_equal_parameters_and_only_they_have_equal_digests(a: float, b: float) -> None:
    assert (digest(Sample(width=a).as_dict()) == digest(Sample(width=b).as_dict())) == (a == b)


def test_int_and_float_are_one_parameter() -> None:
    assert Sample(width=2) == Sample(width=2.0)
    assert digest(Sample(width=2).as_dict()) == digest(Sample(width=2.0).as_dict())
    assert digest(Sample(width=-0.0).as_dict()) == digest(Sample(width=0.0).as_dict())


def test_a_parameter_that_was_added_later_keeps_the_digest_of_its_default() -> None:
    class Before(Parameters):
        order: int = 3

    class After(Parameters):
        order: int = 3
        names: tuple[str, ...] = parameter(("a", "b"), omit_default=True)

    assert After().as_dict() == After(names=["a", "b"]).as_dict() == Before().as_dict()
    assert digest(After().as_dict()) == digest(Before().as_dict())
    assert After(names=()).as_dict() == {"order": 3, "names": []}
    assert After().as_dict(all=True) == {"order": 3, "names": ["a", "b"]}


@pytest.mark.parametrize(
    "values",
    [
        {"order": 1.5},
        {"order": True},
        {"order": "1"},
        {"width": "1"},
        {"width": float("nan")},
        {"width": float("inf")},
        {"width": True},
        {"name": 1},
        {"flag": 1},
        {"limit": "x"},
        {"regions": (1.0, "x")},
        {"regions": 1.0},
        {"ordr": 1},
    ],
)
def test_wrong_values_are_typed_errors(values: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(values))):
        Sample.from_mapping(values)
