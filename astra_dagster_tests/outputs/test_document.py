"""What outputs say: what was written is recognised and read, and nothing else is."""

import io
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astra_dagster.errors import AstraError, Fault
from astra_dagster.fits.writer import make_primary
from astra_dagster.outputs import own_files
from astra_dagster.outputs.companions import DigestMeaning, FailureNote, read_failure_note, read_meaning
from astra_dagster.outputs.document import InputRef, Label, Origin, encode, read, read_label, read_same
from astra_dagster.spectra.output import read_output
from astra_dagster_tests.outputs.written import OUTPUTS, batch, write

TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=90)
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,30}", fullmatch=True)
NUMBERS = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
VALUES = st.one_of(st.none(), NUMBERS, TEXTS, st.lists(st.one_of(st.none(), NUMBERS), max_size=4))
MEMBERS = st.dictionaries(TEXTS, TEXTS, max_size=3).map(lambda members: tuple(members.items()))
ORIGINS = st.builds(
    Origin,
    st.builds(Label, TEXTS.filter(str.strip), NAMES, st.from_regex(r"[0-9a-f]{12}", fullmatch=True), NAMES),
    st.dictionaries(NAMES, VALUES, max_size=4),
    st.lists(st.builds(InputRef, NAMES, NAMES, NAMES, MEMBERS), max_size=3).map(tuple),
)


@pytest.mark.parametrize("suffix", ["json", "fits"])
@given(origin=ORIGINS, results=st.dictionaries(NAMES, VALUES, max_size=5))
def test_what_was_written_is_recognised_and_read(suffix: str, origin: Origin, results: dict[str, Any]) -> None:
    spectra = batch() if suffix == "fits" else None
    origin = replace(origin, label=replace(origin.label, key=origin.label.key.strip()))  # FITS keeps no blanks at ends
    contents, version = encode(origin, results, spectra)
    assert encode(origin, results, spectra) == (contents, version)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x.{suffix}"
        path.write_bytes(contents)
        assert read_label(io.BytesIO(contents), suffix) == origin.label
        found = read(path, suffix)
        assert (found.origin, found.size) == (origin, len(contents))
        assert found.results == results
        assert read_same(path, suffix, origin) == (results, version, len(contents))
        for other in (
            replace(origin, label=replace(origin.label, code_version="other")),
            replace(origin, parameters={**origin.parameters, "another": 1}),
            replace(origin, inputs=(*origin.inputs, InputRef("a", "b", "c"))),
        ):
            with pytest.raises((ValueError, AstraError)):
                read_same(path, suffix, other)


def test_spectra_are_those_that_were_written(tmp_path: Path) -> None:
    _, _, written = write("several", tmp_path)
    found, expected = read_output(written.path), batch(3, continuum=False)
    np.testing.assert_array_equal(found.flux, expected.flux)
    assert found.meta == {**expected.meta, "snr": (1.0, None, 3.0)}


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_is_ours_by_name_and_content(name: str, tmp_path: Path) -> None:
    store, work, written = write(name, tmp_path)
    task, digest = store.task.family, store.digest
    store.note_failure(work, AstraError("no"))
    found = list(own_files.walk(str(store.folder), task, []))
    assert sorted(file.name.sort.value for file in found) == ["note", "output", "parameters"]
    for file in found:
        inspected = own_files.inspect(file, task, digest)
        assert inspected is not None
        assert inspected.code_version == (store.task.version if file.name.sort.value == "output" else "")
        parameters = file.name.sort.value == "parameters"
        note = file.name.sort.value == "note"  # says only which partition it is of: its folder says the rest
        assert (own_files.inspect(file, task, "0123456789ab") is None) != note
        assert parameters or own_files.inspect(file, "another", digest) is None
    assert store.find(work) == written
    contents = written.path.read_bytes()
    written.path.write_bytes(contents.replace(digest.encode(), b"0" * 12))
    assert store.find(work) is None
    (file,) = [file for file in found if file.name.sort.value == "output"]
    assert own_files.inspect(file, task, digest) is None


@pytest.mark.parametrize("suffix", ["json", "fits"])
@pytest.mark.parametrize(
    "contents",
    [b"", b"{}", b"[]", b"null", b"1", b'{"key": "a"}', b'{"key": "a", "provenance": {}, "results": {}}', b"\xff\xfe"],
)
def test_what_is_not_ours_is_never_recognised(suffix: str, contents: bytes, tmp_path: Path) -> None:
    errors = (ValueError, KeyError, TypeError, AttributeError, AstraError)
    with pytest.raises(errors):
        read_label(io.BytesIO(contents), suffix)
    (tmp_path / "x").write_bytes(contents)
    with pytest.raises(errors):
        read(tmp_path / "x", suffix)
    for reading in (read_failure_note, read_meaning):
        with pytest.raises(errors):
            reading(contents)


def test_a_fits_file_of_another_program_is_not_ours() -> None:
    label = Label("DR17/x", "a_task", "0123456789ab", "1")
    cards = [("KEY", label.key, ""), ("TASK", label.task, ""), ("DIGEST", label.digest, ""), ("CODEVER", "1", "")]
    assert read_label(io.BytesIO(make_primary([("ORIGIN", "astra_dagster", ""), *cards])), "fits") == label
    with pytest.raises(ValueError, match="no output"):
        read_label(io.BytesIO(make_primary([("ORIGIN", "somebody", ""), *cards])), "fits")


@given(key=TEXTS, error=TEXTS, fault=st.sampled_from(list(Fault)), tried=st.tuples(TEXTS, TEXTS))
def test_notes_of_failures(key: str, error: str, fault: Fault, tried: tuple[str, ...]) -> None:
    note = FailureNote(key, error, fault, tried)
    assert read_failure_note(note.encode()) == note


@given(parameters=st.dictionaries(NAMES, VALUES, max_size=4), required=st.dictionaries(NAMES, NAMES, max_size=2))
def test_the_meaning_of_a_digest(parameters: dict[str, Any], required: dict[str, str]) -> None:
    meaning = DigestMeaning("a_task", parameters, required)
    assert read_meaning(meaning.encode()) == meaning
    assert read_meaning(meaning.encode()).digest == meaning.digest
    assert DigestMeaning("another", parameters, {**required, "more": "0"}).digest != meaning.digest
