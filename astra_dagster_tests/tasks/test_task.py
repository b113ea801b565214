"""What a scientist writes: the decorator, its errors, parameters as identity, variants, stages."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits

from astra_dagster import (
    Column,
    Parameters,
    SpectrumBatch,
    Task,
    ap_star,
    ap_visit,
    grouped,
    matching,
    parameter,
    spec,
    spectrum_task,
    visits_of_star,
)
from astra_dagster.errors import ParameterError, SpectrumFileError, TaskError
from astra_dagster.fits import writer as encode
from astra_dagster.tasks.columns import MAX_CELLS
from astra_dagster.tasks.continuum import ap_star_continuum, spec_continuum
from astra_dagster.tasks.inputs.requirement import Requirement
from astra_dagster.tasks.parameters import descriptions, digest
from astra_dagster.tasks.snr import ap_visit_snr, spec_snr
from astra_dagster.tasks.task import all_tasks
from astra_dagster_tests.archive.found import find_files
from astra_dagster_tests.mirrors import skip_without


class SNRParameters(Parameters):
    """Of the example.

    Attributes
    ----------
    fudge_factor
        Factor by which every
        ratio is multiplied.
    """

    fudge_factor: float = 1.0
    chunk: int = parameter(64, description="Spectra at a time.", significant=False)


@spectrum_task(requires=ap_visit, parameters=SNRParameters, version="1")
def example_snr(spectra, parameters):
    """Mean signal-to-noise ratio of an apVisit spectrum."""
    return {"snr": parameters.fudge_factor * np.nanmean(spectra.flux * np.sqrt(spectra.ivar), axis=1)}


example_twin = spectrum_task(requires=ap_visit, parameters=SNRParameters, version="1", name="twin")(
    example_snr.function
)


def batch(n: int = 3, pixels: int = 20) -> SpectrumBatch:
    rng = np.random.default_rng(1)
    return SpectrumBatch(
        flux=rng.normal(10, 1, (n, pixels)), ivar=np.full((n, pixels), 4.0), wavelength=np.arange(1.0, pixels + 1)
    )


def task(function, **keywords) -> Task:
    return spectrum_task(**{"requires": ap_visit, "version": "1", "name": "made", **keywords})(function)


def test_a_task_is_a_plain_callable() -> None:
    spectra = batch()
    expected = (spectra.flux * 2).mean(axis=1)
    np.testing.assert_allclose(example_snr(spectra)["snr"], expected)
    np.testing.assert_allclose(example_snr(spectra, fudge_factor=2.0)["snr"], 2 * expected)
    assert example_snr.name == "example_snr"
    assert example_snr.description == "Mean signal-to-noise ratio of an apVisit spectrum."
    with pytest.raises(ParameterError, match="did you mean fudge_factor"):
        example_snr(spectra, fudge=2.0)


def test_without_dagster_a_store_or_configuration() -> None:
    script = (
        "import sys, numpy as np;"
        "from astra_dagster import SpectrumBatch; from astra_dagster.tasks.snr import ap_visit_snr;"
        "chips = (('blue', 0, 3), ('green', 3, 6), ('red', 6, 9));"
        "s = SpectrumBatch(flux=np.ones((1, 9)), ivar=np.ones((1, 9)), chips=chips);"
        "assert ap_visit_snr(s, fudge_factor=2.0)['snr'] == [2.0]; assert 'dagster' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PATH": ""})


def test_built_in_tasks_are_made_with_the_decorator() -> None:
    assert isinstance(ap_visit_snr, Task)
    spectra = batch(2)
    normalised = spec_continuum(
        SpectrumBatch(flux=spectra.flux, ivar=spectra.ivar, wavelength=np.linspace(4000, 5000, 20)),
        continuum_regions=((3900.0, 5100.0),),
        regions=((3900.0, 5100.0),),
    )
    assert isinstance(normalised, SpectrumBatch)
    assert len(normalised.meta["condition"]) == 2


def test_columns_of_every_kind() -> None:
    made = task(
        lambda s, _: {
            "number": np.arange(3.0),
            "whole": np.arange(3),
            "flag": [True, False, True],
            "text": ["a", "b", "c"],
            "row": np.ones((3, 4)),
            "missing": [np.nan, 1.0, np.inf],
        }
    )
    assert made(batch()) == {
        "number": [0.0, 1.0, 2.0],
        "whole": [0, 1, 2],
        "flag": [True, False, True],
        "text": ["a", "b", "c"],
        "row": [[1.0] * 4] * 3,
        "missing": [None, 1.0, None],
    }


def test_a_quantity_is_converted_to_the_promised_unit() -> None:
    made = task(lambda s, _: {"v": np.arange(3) * u.m / u.s}, columns={"v": Column("Velocity.", unit="km / s")})
    assert made(batch())["v"] == pytest.approx([0.0, 0.001, 0.002])
    with pytest.raises(TaskError, match="column v is in m / s; promise it"):
        task(lambda s, _: {"v": np.arange(3) * u.m / u.s})(batch())
    with pytest.raises(TaskError, match="column v is in m / s, not in kg"):
        task(lambda s, _: {"v": np.arange(3) * u.m / u.s}, columns={"v": Column(unit="kg")})(batch())


@pytest.mark.parametrize(
    ("returned", "columns", "message"),
    [
        ({"n": [1.0, 2.0]}, None, "made: column n has shape"),
        ({"n": [[1.0], [2.0, 3.0], [4.0]]}, None, "made: column n has shape"),
        ({"n": [object()] * 3}, None, "made: column n has shape"),
        ({"n": np.broadcast_to(1.0, (3, MAX_CELLS + 1))}, None, f"at most {MAX_CELLS}"),
        ({"n": [1.0, np.nan, 2.0]}, {"n": Column(finite=True)}, "made: column n is not finite"),
        ({"a b": [1.0] * 3}, None, "'a b' cannot be a column"),
        ({}, None, "no columns"),
        ([1.0] * 3, None, "made returned list"),
        (None, None, "made returned NoneType"),
        ({"n": [1.0] * 3}, {"m": ""}, "differ in m, n"),
    ],
)
def test_what_cannot_be_stored_is_an_error_that_names_task_and_column(returned, columns, message) -> None:
    with pytest.raises(TaskError, match=message):
        task(lambda s, _: returned, columns=columns)(batch())


def test_what_a_function_raises_is_told() -> None:
    def broken(spectra, parameters):
        raise ZeroDivisionError("by nothing")

    with pytest.raises(
        TaskError, match=r"ZeroDivisionError: by nothing \(line [0-9]+ of .*tasks/test_task.py, in broken\)"
    ):
        task(broken, name=None)(batch())


def test_the_return_annotation_says_what_is_written() -> None:
    def spectra_out(spectra: SpectrumBatch, parameters: SNRParameters) -> SpectrumBatch:
        return spectra

    assert task(spectra_out).output == "fits"
    assert task(spectra_out)(batch()).flux.shape == (3, 20)
    assert task(lambda s, p: s, output="fits").output == "fits"
    assert example_snr.output == "json"
    with pytest.raises(TaskError, match="returned SpectrumBatch; a mapping of columns is expected"):
        task(lambda s, p: s)(batch())
    with pytest.raises(TaskError, match="1 spectra for 3"):
        task(lambda s, p: s[0], output="fits")(batch())


def test_a_function_of_one_spectrum_is_lifted() -> None:
    def one(spectrum, parameters):
        assert len(spectrum) == 1
        return {"level": float(np.median(spectrum.flux)), "name": "x"}

    made = task(one, each=True)
    assert made(batch())["level"] == pytest.approx(np.median(batch().flux, axis=1))
    assert made(batch())["name"] == ["x"] * 3

    def same(spectrum: SpectrumBatch, parameters: SNRParameters) -> SpectrumBatch:
        return spectrum

    np.testing.assert_array_equal(task(same, each=True)(batch()).flux, batch().flux)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"name": "Not A Name"}, "lower-case"),
        ({"version": "1.0 beta"}, "version of made"),
        ({"requires": ()}, "requires nothing"),
        ({"requires": "apVisit"}, "not 'apVisit'"),
        ({"requires": (ap_visit, ap_star)}, "the same partitions"),
        ({"requires": (ap_visit, grouped(spec, "plate"))}, "the same partitions"),
        ({"stages": 0}, "at least one stage"),
    ],
)
def test_impossible_tasks_are_refused_where_they_are_written(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task(lambda s, p: {}, **keywords)


# Parameters are identity.


def test_digest_vectors() -> None:
    """These must never change: they are in the paths of results that people have."""
    assert digest(SNRParameters().as_dict()) == "8d03c1618871"
    assert (
        digest(SNRParameters(fudge_factor=2).as_dict())
        == digest(SNRParameters(fudge_factor=2.0).as_dict())
        == "e8b0e2d82296"
    )
    assert ap_visit_snr.digest(ap_visit_snr.values()) == "8d03c1618871"
    assert ap_star_continuum.digest(ap_star_continuum.values()) == "f02b47cc0421"
    assert ap_star_continuum.digest(ap_star_continuum.values({"order": 5})) == "4edf84185e5c"
    assert spec_continuum.digest(spec_continuum.values()) == "26baaf7f51b6"


def test_digests_depend_on_what_is_significant_and_on_defaults() -> None:
    assert digest(SNRParameters(chunk=1).as_dict()) == digest(SNRParameters().as_dict())
    assert SNRParameters(chunk=1).as_dict(all=True) == {"fudge_factor": 1.0, "chunk": 1}

    class Other(Parameters):
        fudge_factor: float = 1.5

    assert digest(Other().as_dict()) != digest(SNRParameters().as_dict())
    assert digest(Other(fudge_factor=1).as_dict()) == digest(SNRParameters().as_dict())


def test_parameters_describe_themselves() -> None:
    assert descriptions(SNRParameters) == {
        "fudge_factor": "Factor by which every ratio is multiplied.",
        "chunk": "Spectra at a time.",
    }
    assert descriptions(type(spec_continuum.values()))["L"] == "Longest period, in Angstrom."


def test_variants_are_tasks_of_their_own_that_share_outputs_with_the_same_parameters() -> None:
    five = ap_star_continuum.variant("order5", order=5)
    assert five.name == "ap_star_continuum_order5"
    assert five.family == "ap_star_continuum"
    assert five.values().order == 5
    assert five.digest(five.values()) == ap_star_continuum.digest(ap_star_continuum.values({"order": 5}))
    assert ap_star_continuum.values().order == 3
    assert ap_star_continuum.with_parameters(order=5).name == "ap_star_continuum_order_5"
    assert ap_star_continuum.with_parameters(order=3) is ap_star_continuum
    assert ap_star_continuum.with_parameters().name == "ap_star_continuum"
    long = ap_star_continuum.with_parameters(regions=((15100.0, 15800.0), (15900.0, 16400.0), (16500.0, 16900.0)))
    assert len(long.name) < 40
    with pytest.raises(ParameterError, match="did you mean order"):
        ap_star_continuum.variant("x", ordr=5)


def downstream(of: Task) -> Task:
    return task(lambda s, p: {"n": np.ones(len(s))}, requires=of, name="downstream")


def test_what_is_required_is_part_of_the_identity() -> None:
    one, other = downstream(ap_star_continuum), downstream(ap_star_continuum.with_parameters(order=5))
    assert one.digest(one.values()) != other.digest(other.values())
    assert [item.name for item in other.chain] == ["ap_star_continuum_order_5", "downstream"]
    assert one.domain == ap_star
    same = downstream(ap_star_continuum.variant("whatever", order=5))
    assert same.digest(same.values()) == other.digest(other.values())


def test_all_tasks_finds_what_is_required_and_refuses_two_of_one_name() -> None:
    found = all_tasks([downstream(ap_star_continuum.with_parameters(order=5))])
    assert list(found) == ["ap_star_continuum_order_5", "downstream"]
    with pytest.raises(ValueError, match="two tasks named downstream"):
        all_tasks([downstream(ap_star_continuum), downstream(ap_star_continuum)])


# Several inputs, many partitions, stages.


@pytest.mark.parametrize(
    ("required", "of_task", "one_to_one", "domain"),
    [
        (spec, None, True, "spec"),
        (spec_snr, spec_snr, True, "spec"),
        (grouped(spec, by="plate"), None, False, "spec_by_plate"),
        (grouped(spec_snr, by="plate"), spec_snr, False, "spec_by_plate"),
        (matching(spec_snr, ap_star, visits_of_star), spec_snr, False, "apStar"),
        (matching(spec, spec, visits_of_star), None, False, "spec"),
    ],
)
def test_a_requirement_is_one_type(required: Any, of_task: Task | None, one_to_one: bool, domain: str) -> None:
    (found,) = task(lambda s, p: {}, requires=required).requires
    assert (found.product, found.task, found.one_to_one) == (spec, of_task, one_to_one)
    assert found.domain.name == domain
    assert found.asset_name == ("spec_snr" if of_task else "spec")


def test_what_a_task_of_groups_requires_of_another_is_the_same_group() -> None:
    plates = task(lambda s, p: {}, requires=grouped(spec, by="plate"), name="plates")
    (found,) = task(lambda s, p: {}, requires=plates).requires
    assert found.one_to_one
    assert (found.partitions, found.product) == (plates.domain, spec)
    assert found.members(plates.domain.parse_key("DR17/4000"), None, found.index([])) == ["DR17/4000"]
    for of in (plates, grouped(spec, by="plate")):
        with pytest.raises(ValueError, match="only partitions that are files"):
            grouped(of, by="run2d")


def test_groups_of_groups_know_their_members() -> None:
    """The index takes partitions of any kind, as a requirement of many groups will have them."""
    nights, plates = (grouped(ap_visit, by=by).domain for by in (("plate", "mjd"), "plate"))
    found = Requirement(nights, task(lambda s, p: {}, requires=grouped(ap_visit, by=("plate", "mjd"))), plates)
    index = found.index(["DR17/5226/56000", "DR17/5227/56000", "DR17/5226/56001", "DR16/5226/56000"])
    assert not found.one_to_one
    assert found.members(plates.parse_key("DR17/5226"), None, index) == ["DR17/5226/56000", "DR17/5226/56001"]


def test_a_task_goes_to_another_process_as_itself() -> None:
    """Not as another task of the same function; and with requirements that are equal, though not the same object."""
    for one in (example_snr, example_twin):
        assert pickle.loads(pickle.dumps(one)) is one
    variant = pickle.loads(pickle.dumps(example_twin.variant("two", fudge_factor=2.0)))
    assert (variant.name, variant.family, variant.values().fudge_factor) == ("twin_two", "twin", 2.0)
    assert variant.function is example_snr.function


def test_several_inputs_for_the_same_partition() -> None:
    @spectrum_task(requires=(spec, spec_snr), version="1")
    def bright(spectra, snr, parameters):
        return {"bright": (snr["snr"] > 5) & (spectra.flux.mean(axis=1) > 0)}

    assert bright(batch(), {"snr": np.array([1.0, 10.0, 20.0])})["bright"] == [False, True, True]
    assert [item.name for item in bright.chain] == ["spec_snr", "bright"]


def test_many_partitions_for_one() -> None:
    @spectrum_task(requires=grouped(spec, by=("plate", "run2d")), version="1")
    def plate_level(spectra, parameters):
        return {"level": np.mean([s.flux.mean() for s in spectra]), "spectra": len(spectra)}

    assert plate_level.domain.key_order == "release/run2d/plate"
    assert plate_level([batch(1), batch(1, 30)])["spectra"] == [2]
    with pytest.raises(ValueError, match="has no part color"):
        grouped(spec, by="color")
    star = matching(ap_visit, ap_star, lambda star, path: [{"plate": "5226"}])
    assert star.domain == ap_star
    index = star.index(["DR17/apo25m/120+12/5226/56000/001", "DR17/apo25m/120+12/5227/56000/001"])
    one = ap_star.data_id("DR17", telescope="apo25m", field="120+12", obj="2M00000032+5737103")
    assert star.members(one, Path("x"), index) == ["DR17/apo25m/120+12/5226/56000/001"]


def test_the_visits_of_a_star_are_those_that_its_file_names(real_mirrors: list[Path], tmp_path: Path) -> None:
    visits = [f.data_id.key for root in real_mirrors for f in find_files(ap_visit, "DR13", root)[0]]
    required = matching(ap_visit_snr, ap_star, visits_of_star)
    index = required.index(visits)
    stars = [f for root in real_mirrors for f in find_files(ap_star, "DR13", root)[0]]
    members = {f.data_id.values["obj"]: required.members(f.data_id, f.path, index) for f in stars}
    named = [key for keys in members.values() for key in keys]
    if not named:
        skip_without("star of DR13 with its visits")
    assert len(named) == len(set(named))
    by_name = {ap_visit.parse_key(key).relative_path.rpartition("/")[2]: key for key in visits}
    for f in stars:
        header = fits.getheader(f.path)
        files = [header[f"SFILE{i}"] for i in range(1, header["NVISITS"] + 1)]
        there = [by_name[name] for name in files if name in by_name]
        assert sorted(members[f.data_id.values["obj"]]) == sorted(there)
    path = tmp_path / "apStar.fits"
    path.write_bytes(encode.make_primary([("SFILE1", "something.fits", "")]))
    with pytest.raises(SpectrumFileError, match="which is no visit"):
        visits_of_star(stars[0].data_id, path)


def test_stages_get_what_the_stage_before_made() -> None:
    @spectrum_task(requires=ap_visit, version="1", stages=3)
    def refined(spectra, before, parameters):
        return {"k": np.ones(len(spectra)) if before is None else before["k"] + 1}

    first, second, third = refined.chain
    assert [first.name, second.name, third.name] == ["refined_stage1", "refined_stage2", "refined"]
    assert third is refined
    assert first(batch())["k"] == [1.0] * 3
    assert second(batch(), {"k": np.ones(3)})["k"] == [2.0] * 3
    assert third(batch(), {"k": 2 * np.ones(3)})["k"] == [3.0] * 3
