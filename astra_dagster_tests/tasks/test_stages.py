"""Tasks with stages: a fixed number, each an asset, or until each spectrum's result is final."""

import astropy.units as u
import numpy as np
import pytest

from astra_dagster import SpectrumBatch, ap_visit, spectrum_task
from astra_dagster.tasks.columns import Column, failed

LEVELS = (1.0, 4.0, 9.0, 0.25)


def batch(levels: tuple[float, ...] = LEVELS) -> SpectrumBatch:
    flux = np.array(levels)[:, None] * np.ones((len(levels), 5))
    return SpectrumBatch(
        flux, np.ones_like(flux), np.arange(5.0), np.zeros(flux.shape, bool), meta={"n": range(len(levels))}
    )


def close(before, now):  # type: ignore[no-untyped-def]
    return np.abs(now["root"] - before["root"]) < 1e-12


def test_every_spectrum_goes_through_as_many_stages_as_it_needs() -> None:
    calls = []

    @spectrum_task(requires=ap_visit, version="1", stages=30, until=close)
    def heron(spectra, before, parameters):
        """Square roots by Heron's method."""
        calls.append(len(spectra))
        level = spectra.flux[:, 0]
        root = level if before is None else (before["root"] + level / before["root"]) / 2
        steps = np.ones(len(level)) if before is None else before["steps"] + 1
        return {"root": root, "steps": steps}

    assert [task.name for task in heron.chain] == ["heron"]
    made = heron(batch())
    assert made["root"] == pytest.approx(np.sqrt(LEVELS), rel=1e-12)
    assert made["steps"][0] == 2 < made["steps"][1] < made["steps"][2] == len(calls)
    assert calls == sorted(calls, reverse=True)
    for row, level in enumerate(LEVELS):
        assert heron(batch((level,)))["root"] == [made["root"][row]]


def test_the_last_stage_is_final_whatever_is_said_of_it() -> None:
    @spectrum_task(requires=ap_visit, version="1", stages=4, until=lambda before, now: now["k"] > 100)
    def counted(spectra, before, parameters):
        return {"k": np.ones(len(spectra)) if before is None else before["k"] + 1}

    assert counted(batch())["k"] == [4.0] * 4


def test_spectra_units_missing_values_and_reasons_go_through_stages() -> None:
    def until(before: SpectrumBatch, now: SpectrumBatch) -> object:
        return np.array(now.meta["k"]) >= np.array(before.flux[:, 0])

    @spectrum_task(requires=ap_visit, version="1", stages=20, until=until, columns={"k": "Stages."})
    def lowered(spectra, before, parameters) -> SpectrumBatch:
        k = [1] * len(spectra) if before is None else [value + 1 for value in before.meta["k"]]
        return spectra.__class__(
            spectra.flux, spectra.ivar, spectra.wavelength, spectra.bad, meta={**spectra.meta, "k": tuple(k)}
        )

    made = lowered(batch())
    assert made.meta["k"] == (2, 4, 9, 2)
    np.testing.assert_array_equal(made.flux, batch().flux)

    columns = {"k": Column(), "speed": Column(unit="km / s"), "word": Column(), "none": Column()}

    @spectrum_task(
        requires=ap_visit, version="1", stages=9, until=lambda before, now: now["k"] > 4, columns=columns | {"k": ""}
    )
    def mixed(spectra, before, parameters):
        k = spectra.flux[:, 0] if before is None else before["k"] + 1
        speed = (1000 * k) * u.m / u.s
        words = [failed("no convergence") if value == 0.25 else f"at {value:g}" for value in k]
        return {"k": k, "speed": speed, "word": words, "none": np.ma.array(k, mask=k > 8)}

    made = mixed(batch())
    assert [getattr(value, "reason", value) for value in made["word"]] == ["at 5", "at 5", "at 10", "no convergence"]
    assert made["speed"][:3] == [5.0, 5.0, 10.0]
    assert made["none"][:3] == [5.0, 5.0, None]


def test_each_data_ids_and_setup_are_handed_on() -> None:
    @spectrum_task(
        requires=ap_visit,
        version="1",
        stages=9,
        each=True,
        setup=lambda parameters: 3,
        until=lambda before, now: now["k"] >= now["most"],
    )
    def single(spectrum, before, most, parameters, data_ids):
        return {"k": 1 if before is None else before["k"] + 1, "most": most, "who": data_ids[0]}

    made = single(batch(), 3, data_ids=("a", "b", "c", "d"))
    assert made == {"k": [3] * 4, "most": [3] * 4, "who": ["a", "b", "c", "d"]}


def test_until_needs_stages() -> None:
    with pytest.raises(ValueError, match="until needs stages="):
        spectrum_task(requires=ap_visit, version="1", until=close)
