"""Checks of the newest outputs of a task, file by file. They name bad files before their results are used.

Limits are those of real files of DR13 and DR17 (36 apVisit, 8 apStar with 41 spectra, 2 spec) with some margin; each
says which values these files have.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from astra_dagster.checks.check import Check, Finding, Verdict
from astra_dagster.checks.sample import OutputSample
from astra_dagster.spectra.products.ap_star import AP_STAR
from astra_dagster.spectra.products.ap_visit import AP_VISIT
from astra_dagster.spectra.products.spec import SPEC
from astra_dagster.tasks.columns import name_flags
from astra_dagster.tasks.parameters import descriptions
from astra_dagster.tasks.task import Task

HEADER_SNR = {
    **dict.fromkeys(AP_VISIT, "snr_green"),
    **dict.fromkeys(AP_STAR, "snr_all"),
    **dict.fromkeys(SPEC, "snr_median"),
}
"""Column by product that is the file's SNR card, or SN_MEDIAN_ALL; of several spectra the first."""

SNR_RELATIVE, SNR_ABSOLUTE = {**dict.fromkeys((*AP_VISIT, *AP_STAR), 1e-3), **dict.fromkeys(SPEC, 0.05)}, 1e-3
"""Largest difference of the two: in real files at most 2e-4 of the ratio in apVisit, 2e-6 in apStar, 0.022 in spec."""

BAD_PIXELS = {**dict.fromkeys(AP_VISIT, 0.10), **dict.fromkeys(AP_STAR, 0.25), **dict.fromkeys(SPEC, 0.20)}
"""Largest fraction of bad pixels that is as expected, by product.

In real files it is 0.7 to 1.7 % in apVisit, 6 to 14 % in apStar, where the gaps between the chips are 12 %, and up to
0.3 % in spec, or 5 % in the range in which a continuum is fitted."""

GOOD = "good_pixels"
"""Column with the number of good pixels; a spectrum that has none is no data, and a result all the same."""

NAMED = 3
"""Number of spectra without data that a check names."""

MIDDLE, HIGHEST = (0.8, 1.08), 1.2
"""Limits of the median and of the largest envelope of a spectrum.

In real files of S/N > 30 the median is 0.93 to 1.03, and the largest is up to 1.1; where the continuum runs free at a
chip's edge it is 1.3 and more. The largest is not looked at where a flag says that there is no true continuum."""


def outputs_as_recorded(newest: OutputSample) -> Verdict:
    """Check that outputs exist, can be read, and are what was recorded."""
    wrong = [Finding(key, reason, "the output that was recorded", True) for key, reason in newest.problems]
    return Verdict(newest.outputs, "outputs", tuple(wrong))


def results_finite(newest: OutputSample) -> Verdict:
    """Check that no number is missing from a result; of several spectra in a file, from that of the first.

    A spectrum without a good pixel has no ratio and no continuum: it is told of, and no fault.
    """
    lacking: dict[str, list[str]] = {}
    empty = {newest.keys[i] for i in newest.first if newest.column(GOOD)[i] == 0}
    for name in newest.numbers:
        if newest.is_identity(name):  # the file may not say it
            continue
        for i in newest.first:
            if newest.keys[i] in empty:
                continue
            value = newest.columns[name][i]
            if value is None or (isinstance(value, list) and None in value):
                lacking.setdefault(newest.keys[i], []).append(name)
    wrong = [Finding(key, f"no {', '.join(names)}", "finite numbers") for key, names in lacking.items()]
    return Verdict(len(newest.first), "results", tuple(wrong), _say_no_data(sorted(empty)))


def snr_as_in_header(newest: OutputSample) -> Verdict:
    """Check that the signal-to-noise ratio is that of the file's header."""
    name = HEADER_SNR[newest.store.task.domain.name]
    factor = getattr(newest.store.parameters, "fudge_factor", 1.0)
    relative, of_row = SNR_RELATIVE[newest.store.task.domain.name], newest.store.task.domain.name in SPEC
    values, told, wrong, looked_at, without = newest.column(name), newest.column("header_snr"), [], 0, 0
    for i in newest.first:
        key, value, file = newest.keys[i], values[i], newest.files[newest.keys[i]]
        said = told[i] if of_row else file.snr if file else None
        if file is not None and file.problem:
            wrong.append(Finding(key, f"the file cannot be read: {file.problem}", "a header with the card SNR"))
        elif said is None or value is None:
            without += 1
            continue
        elif abs(value - factor * said) > abs(factor) * (relative * abs(said) + SNR_ABSOLUTE):
            wrong.append(Finding(key, f"{name} {value:.6g}", f"SNR {factor * said:.6g} by the file's header"))
        looked_at += 1
    note = f"{without} without file, SNR card or result left out" if without else ""
    return Verdict(looked_at, "results", tuple(wrong), note)


def bad_pixels(newest: OutputSample) -> Verdict:
    """Check that no spectrum has more bad pixels than is usual for its product."""
    limit = BAD_PIXELS[newest.store.task.domain.name]
    wrong, empty, looked_at, without = [], [], 0, 0
    for key, spectrum, good in zip(newest.keys, newest.spectra, newest.column(GOOD), strict=True):
        file = newest.files[key]
        if file is None or not file.pixels or good is None:
            without += 1
            continue
        bad = 1 - good / file.pixels
        if good == 0:
            # Rows that a file leaves empty are not worth a word, as the second of an apStar file of one visit.
            empty += [key] if spectrum == 0 else []
        elif bad > limit:
            wrong.append(Finding(key, f"{_name_spectrum(newest, spectrum)}{bad:.1%} bad", f"at most {limit:.0%}"))
        looked_at += 1
    notes = [_say_no_data(empty), f"{without} without file or number of good pixels left out" if without else ""]
    return Verdict(looked_at, "spectra", tuple(wrong), "; ".join(filter(None, notes)))


def continuum_positive(newest: OutputSample) -> Verdict:
    """Check that the continuum is positive and finite; a spectrum is unusable if it is not in pixels not marked bad."""
    wrong = []
    for key, level in newest.levels:
        if level.problem:
            wrong.append(Finding(key, f"cannot be read: {level.problem}", "a positive continuum", True))
        elif level.wrong > 0 or level.used:
            text = f"wrong in {level.wrong:.1%} of the pixels, {level.used} unusable pixels are not marked bad"
            unusable = level.used > 0 or level.wrong > 0.5
            wrong.append(
                Finding(key, _name_spectrum(newest, level.spectrum) + text, "a positive, finite continuum", unusable)
            )
    return Verdict(len(newest.levels), "spectra", tuple(wrong), _say_left_out(newest))


def envelope_level(newest: OutputSample) -> Verdict:
    """Check that the envelope of the normalised flux is near 1, all along the spectrum."""
    wrong, unclear = [], 0
    pseudo = _find_pseudo(newest)
    for key, level in newest.levels:
        if not level.windows:  # so it is where a spectrum cannot be read, which the other check reports
            unclear += 1
            continue
        name = _name_spectrum(newest, level.spectrum)
        if not MIDDLE[0] < level.middle < MIDDLE[1]:
            text = f"{name}{level.middle:.3f}, median of {level.windows} windows"
            wrong.append(Finding(key, text, f"between {MIDDLE[0]} and {MIDDLE[1]}"))
        elif level.highest > HIGHEST and (key, level.spectrum) not in pseudo:
            text = f"{name}{level.highest:.3f} at {level.place:.0f} Angstrom"
            wrong.append(Finding(key, text, f"at most {HIGHEST}"))
    notes = [f"{unclear} too noisy left out" if unclear else "", _say_left_out(newest)]
    return Verdict(len(newest.levels) - unclear, "spectra", tuple(wrong), "; ".join(filter(None, notes)))


def _find_pseudo(newest: OutputSample) -> set[tuple[str, int]]:
    """Return key and number of the spectra that a flag says to have no true continuum."""
    flags = newest.store.task.columns.get("flags")
    member = getattr(flags and flags.flags, "PSEUDO_CONTINUUM", None)
    if member is None:
        return set()
    rows = zip(newest.keys, newest.spectra, newest.column("flags"), strict=True)
    return {(key, number) for key, number, value in rows if value is not None and int(value) & member}


def flags_usable(newest: OutputSample) -> Verdict:
    """Check that no spectrum has a flag with which its results should not be used, and count the others."""
    wrong, notes = [], []
    for name, column in newest.store.task.columns.items():
        if column.flags is None or column.identity:
            continue
        counts: Counter[str] = Counter()
        for key, spectrum, value in zip(newest.keys, newest.spectra, newest.column(name), strict=True):
            said = int(value or 0)
            counts.update(filter(None, name_flags(said, column.flags).split(", ")))
            unusable = said & int(getattr(column.flags, "UNUSABLE", 0))
            if unusable:
                text = _name_spectrum(newest, spectrum) + name_flags(unusable, column.flags)
                wrong.append(Finding(key, text, "a result that can be used"))
        notes += [f"{count} {said}" for said, count in counts.most_common()]
    return Verdict(len(newest.keys), "spectra", tuple(wrong), ", ".join(notes))


def _say_no_data(keys: Sequence[str]) -> str:
    """Name the spectra that have no good pixel, as those of dead fibres; empty if there are none."""
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return f"no data in {', '.join(keys[:NAMED])}{more}" if keys else ""


def _name_spectrum(newest: OutputSample, number: int) -> str:
    return f"spectrum {number}: " if newest.store.several else ""


def _say_left_out(newest: OutputSample) -> str:
    every, read = len(set(newest.keys)), len(newest.sampled)
    return f"the spectra of {read} of {every} outputs were read" if read < every else ""


def _takes_file(task: Task, products: Iterable[str]) -> bool:
    """Whether the first requirement of a task is one file of one of these products."""
    first = task.requires[0]
    return first.task is None and first.one_to_one and first.product.name in products


def _has_snr(task: Task) -> bool:
    return _takes_file(task, HEADER_SNR) and HEADER_SNR[task.domain.name] in task.columns


def _has_good_pixels(task: Task) -> bool:
    return _takes_file(task, BAD_PIXELS) and GOOD in task.columns


def _has_flags(task: Task) -> bool:
    return any(column.flags is not None and not column.identity for column in task.columns.values())


def _has_continuum(task: Task) -> bool:
    return task.output == "fits" and "continuum_regions" in descriptions(task.parameters)


CHECKS: tuple[Check[OutputSample], ...] = (
    Check(outputs_as_recorded, "Outputs are there, can be read, and are what was recorded."),
    Check(results_finite, "No number is missing from a result; of several spectra a file, from that of the first."),
    Check(
        snr_as_in_header,
        "The signal-to-noise ratio is that of the file's header: to 0.1 %, of spec files to 5 %.",
        _has_snr,
    ),
    Check(bad_pixels, "No spectrum has more bad pixels than is usual for its product.", _has_good_pixels),
    Check(continuum_positive, "The continuum is positive and finite, in a sample of the spectra.", _has_continuum),
    Check(
        envelope_level, "The envelope of the normalised flux is near 1, all along a sample of spectra.", _has_continuum
    ),
    Check(flags_usable, "No spectrum has a flag with which it should not be used; others are counted.", _has_flags),
)
"""All checks of outputs."""
