"""Documentation that is run as it is written: every command and every piece of Python of a page, in one shell.

How code blocks are marked, after the language on the opening fence:

- ``sh``: run; with ``no-test`` not run, with ``fails`` the last command must fail;
- ``python``: run in a fresh interpreter in the current folder;
- ``text``: the output of the block before it. ``...`` in a line stands for anything, alone in one for any lines.
  Numbers with a decimal point are compared to six digits, the home folder is shown as ``$HOME``;
- any language and a path: the contents of that file: written there, or with ``unchanged`` compared with what is there;
- one of `SHOWN` without a path: only shown.

``python -m astra_dagster_tests.documented`` prints how many commands there are.
"""

import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MARKS = {"fails", "no-test", "unchanged"}
SHOWN = {"ini", "sql", "toml", "yaml"}
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?(?![\w.])")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Block:
    """A code block: the line that it starts at, its language and marks, and its text."""

    line: int
    language: str
    marks: tuple[str, ...]
    text: str

    @property
    def path(self) -> str | None:
        """File that it holds the contents of."""
        return next((mark for mark in self.marks if mark not in MARKS), None)

    @property
    def commands(self) -> list[str]:
        """Commands of a shell block that are run."""
        if self.language != "sh" or self.path or "no-test" in self.marks:
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


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
        elif block.path or block.language not in SHOWN:
            assert block.path or block.language in {"sh", "python"}, f"line {block.line}: {block.language}"
            steps.append(Step(block))
    return [step for step in steps if "no-test" not in step.block.marks]


def pages() -> list[Path]:
    """All pages, in a fixed order."""
    return sorted(DOCS.rglob("*.md"))


def steps_of_page(page: Path) -> list[Step]:
    return steps_of(blocks_of(page.read_text()))


def script_of(block: Block) -> str:
    end = "THE_END_OF_THE_BLOCK"
    if block.path is None and block.language == "sh":
        return block.text
    if block.path is None:
        command = "python -W error -"
    else:
        command = f"diff - {block.path}" if "unchanged" in block.marks else f"cat > {block.path}"
    return f"{command} <<'{end}'\n{block.text}{end}\n"


def run(
    steps: list[Step], home: Path, programs: Path, start: str = "", stand_ins: Mapping[str, str] | None = None
) -> list[tuple[int, str]]:
    """Run all steps in one shell; exit code and output of each.

    Parameters
    ----------
    programs
        Folder with programs that come before others of their name; see `warm`.
    start
        Run before them.
    stand_ins
        What is used here in place of names that mean something elsewhere, such as addresses of servers.
    """
    outputs = home.with_name(f"{home.name}-outputs")
    outputs.mkdir()
    home.mkdir(exist_ok=True)
    given = {**(stand_ins or {})}
    parts = [start]
    for i, step in enumerate(steps):
        script = script_of(step.block)
        for name, real in given.items():
            script = script.replace(name, real)
        parts.append(f"{{\n{script}}} > {outputs}/{i} 2>&1 < /dev/null\necho $? > {outputs}/{i}.code\n")
    environment = {
        "HOME": str(home),
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(Path("~/.cache/matplotlib").expanduser())),
    }
    shell = subprocess.Popen(
        ["/bin/bash"], stdin=subprocess.PIPE, text=True, cwd=home, env=environment, start_new_session=True
    )
    try:
        shell.communicate("".join(parts), timeout=600)
    finally:
        end(shell)  # and with it what a page has started in the background
    assert shell.returncode == 0
    results = []
    for i in range(len(steps)):
        text = COLOUR.sub("", (outputs / str(i)).read_text()).replace(str(home), "$HOME")
        for name, real in given.items():
            text = text.replace(real, name)
        lines = [line.rstrip() for line in text.splitlines()]
        results.append((int((outputs / f"{i}.code").read_text()), "\n".join(lines).strip("\n") + "\n"))
    return results


def end(leader: subprocess.Popen[str]) -> None:
    """End a process that leads a session, and all that belong to it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(leader.pid, number)
        except ProcessLookupError:
            break
        try:
            leader.wait(10)
        except subprocess.TimeoutExpired:
            continue


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


def check(steps: list[Step], results: list[tuple[int, str]]) -> None:
    """Fail with all mistakes in full, which an assertion would shorten."""
    if found := mistakes(steps, results):
        pytest.fail("\n".join(found), pytrace=False)


def mutated(text: str) -> Iterator[str]:
    """The text with one character changed in one of its lines."""
    lines = text.splitlines(keepends=True)
    for i, line in enumerate(lines):
        changed = re.sub(r"[0-9A-Za-z]", "#", line, count=1)
        if changed != line:
            yield "".join([*lines[:i], changed, *lines[i + 1 :]])


def main() -> None:
    """Count what is run."""
    total, shown = 0, 0
    for page in pages():
        steps = steps_of_page(page)
        commands = sum(len(step.block.commands) for step in steps)
        programs = sum(step.block.language == "python" and not step.block.path for step in steps)
        compared = sum(step.shown is not None for step in steps)
        if steps:
            print(
                f"{page.relative_to(DOCS)!s:28} {commands:3} commands, {programs} pieces of Python, {compared} outputs"
            )
        total, shown = total + commands + programs, shown + compared
    print(f"{total} commands are run, {shown} outputs compared")


if __name__ == "__main__":
    main()
