"""The tutorial, run as it is written, and the comparison of outputs itself."""

from pathlib import Path

import pytest

from astra_dagster_tests.documented import DOCS, ROOT, as_shown, check, mutated, run, steps_of_page

TUTORIAL = DOCS / "tutorial.md"


@pytest.mark.slow
def test_every_command_does_what_the_tutorial_says(programs: Path, tmp_path: Path) -> None:
    steps = steps_of_page(TUTORIAL)
    results = run(steps, tmp_path / "home", programs)
    check(steps, results)
    # And the comparison notices a wrong digit or word in any of the outputs.
    for step, (_, real) in zip(steps, results, strict=True):
        if step.shown is not None:
            for wrong in mutated(step.shown.text):
                assert not as_shown(wrong, real), f"line {step.shown.line}: {wrong}"


def test_outputs_are_compared_line_by_line() -> None:
    real = "a: 3 files\nsnr 47.84882009677609\nwrote $HOME/x\nend\n"
    assert as_shown(real, real)
    assert as_shown("a: 3 files\n...\nend\n", real)
    assert as_shown("...\nsnr 47.84882\n...\n", real)
    assert as_shown("a: ... files\nsnr 47.848820\nwrote ...\nend", real)
    assert not as_shown("a: 3 files\nend\n", real)
    assert not as_shown("a: 4 files\n...\n", real)
    assert not as_shown("...\nsnr 47.8489\n...\n", real)
    assert not as_shown("...\nwrote $HOME/y\n...\n", real)
    assert not as_shown("...\nend\nand more\n", real)


def test_the_readme_shows_the_template() -> None:
    from astra_dagster.cli.new import FILES

    code = FILES["PACKAGE/snr.py"].split('"""\n\n', 1)[1]
    assert code in (ROOT / "README.md").read_text()
    assert code in TUTORIAL.read_text()
