"""The tutorial, run as it is written: every command and every piece of Python, in order, in one shell.

How its code blocks are marked, after the language on the opening fence:

- ``sh``: run; with ``no-test`` not run, with ``fails`` the last command must fail;
- ``python``: run in a fresh interpreter in the current folder; with a path, it is the contents of that file: written
  there, or with ``unchanged`` compared with what is there;
- ``text``: the output of the block before it. ``...`` in a line stands for anything, alone in one for any lines.
  Numbers with a decimal point are compared to six digits, the home folder is shown as ``$HOME``.
"""

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?(?![\w.])")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Block:
    """A code block: the line that it starts at, its language and marks, and its text."""

    line: int
    language: str
    marks: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Step:
    """A block that is run, and the output that is shown after it."""

    block: Block
    shown: Block | None = None


def blocks_of(markdown: str) -> list[Block]:
    found = re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)
    return [Block(markdown.count("\n", 0, m.start()) + 1, m[1], tuple(m[2].split()), m[3]) for m in found]


def steps_of(blocks: list[Block]) -> list[Step]:
    steps: list[Step] = []
    for block in blocks:
        if block.language == "text":
            assert steps, f"line {block.line}: output of nothing"
            assert steps[-1].shown is None, f"line {block.line}: a second output of one block"
            steps[-1] = Step(steps[-1].block, block)
        else:
            assert block.language in {"sh", "python"}, f"line {block.line}: {block.language}"
            steps.append(Step(block))
    return [step for step in steps if "no-test" not in step.block.marks]


def script_of(block: Block) -> str:
    if block.language == "sh":
        return block.text
    end = "THE_END_OF_THE_BLOCK"
    paths = [mark for mark in block.marks if mark != "unchanged"]
    command = "python -W error -" if not paths else f"cat > {paths[0]}"
    if "unchanged" in block.marks:
        command = f"diff - {paths[0]}"
    return f"{command} <<'{end}'\n{block.text}{end}\n"


def run(steps: list[Step], home: Path) -> list[tuple[int, str]]:
    """Run all steps in one shell; exit code and output of each."""
    outputs = home.with_name(f"{home.name}-outputs")
    outputs.mkdir()
    home.mkdir()
    parts = [
        f"{{\n{script_of(step.block)}}} > {outputs}/{i} 2>&1 < /dev/null\necho $? > {outputs}/{i}.code\n"
        for i, step in enumerate(steps)
    ]
    environment = {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(Path("~/.cache/matplotlib").expanduser())),
    }
    script = "".join(parts)
    subprocess.run(["/bin/bash"], input=script, text=True, cwd=home, env=environment, check=True, timeout=600)
    results = []
    for i in range(len(steps)):
        text = COLOUR.sub("", (outputs / str(i)).read_text())
        lines = [line.rstrip() for line in text.replace(str(home), "$HOME").splitlines()]
        results.append((int((outputs / f"{i}.code").read_text()), "\n".join(lines).strip("\n") + "\n"))
    return results


def as_shown(shown: str, real: str) -> bool:
    """Whether an output is as it is shown."""
    pattern = ""
    for line in shown.strip("\n").splitlines():
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
            continue
        parts = [r"[^\n]*?".join(map(re.escape, part.split("..."))) for part in NUMBER.split(line.rstrip())]
        pattern += f"({NUMBER.pattern})".join(parts) + "\n"
    match = re.fullmatch(pattern, real)
    expected = NUMBER.findall("\n".join(line for line in shown.splitlines() if line.strip() != "..."))
    return match is not None and all(
        math.isclose(float(a), float(b), rel_tol=1e-6) for a, b in zip(expected, match.groups(), strict=True)
    )


def mistakes(steps: list[Step], results: list[tuple[int, str]]) -> list[str]:
    found = []
    for step, (code, real) in zip(steps, results, strict=True):
        if (code != 0) != ("fails" in step.block.marks):
            found.append(f"line {step.block.line}: exit code {code}\n{real}")
        elif step.shown is not None and not as_shown(step.shown.text, real):
            found.append(f"line {step.shown.line}: shown is\n{step.shown.text}\nand comes\n{real}")
    return found


def test_every_command_does_what_the_tutorial_says(tmp_path: Path) -> None:
    steps = steps_of(blocks_of(TUTORIAL.read_text()))
    results = run(steps, tmp_path / "home")
    assert "\n".join(mistakes(steps, results)) == ""
    # And the comparison notices a wrong digit or word in any of the outputs.
    for step, (_, real) in zip(steps, results, strict=True):
        if step.shown is not None:
            for wrong in mutated(step.shown.text):
                assert not as_shown(wrong, real), f"line {step.shown.line}: {wrong}"


def mutated(text: str) -> Iterator[str]:
    """The text with one character changed in one of its lines."""
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines):
        changed = re.sub(r"[0-9A-Za-z]", "#", line, count=1)
        if changed != line:
            yield "".join([*lines[:i], changed, *lines[i + 1 :]])


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
