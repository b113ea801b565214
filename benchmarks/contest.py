"""Contenders measured side by side, in rounds, and the table of what they took."""

from collections.abc import Mapping, Sequence

from contenders import Contender, Digests, Nights
from measure import Measured, least

Results = dict[str, dict[int, list[Measured]]]
"""By contender, and number of files."""

HEAD = ["", "files", "s", "start s", "ms/file", "cpu ms", "files/s", "x", "x all", "MB", "outputs"]


def contest(mirrors: Nights, chosen: Sequence[Contender], files: int, repeat: int) -> tuple[Results, dict[str, bool]]:
    """Measure all contenders in so many rounds, over one file and over all of theirs.

    Returns
    -------
    Results
        Of the last command of each contender, and under a name of its own of finding the files.
    dict
        Whether the outputs of each are those of the others before it, as many and the same.
    """
    results: Results = {}
    same: dict[str, bool] = {}
    seen: Digests = {}
    numbers: dict[int, int] = {}
    for turn in range(repeat):
        for one in chosen if turn % 2 == 0 else reversed(chosen):
            for count in (1, min(files, one.files or files)):
                with mirrors.place(count) as place:
                    taken = one.run(place)
                    made = place.digests()
                print(f"{one.name}, {count} files: {taken['run'].seconds:.1f} s", flush=True)
                for step in ("discover", "run"):
                    if step in taken:
                        name = one.name if step == "run" else f"{one.name}: discover"
                        results.setdefault(name, {}).setdefault(count, []).append(taken[step])
                complete = bool(made) and len(made) == numbers.setdefault(count, len(made))
                alike = all(seen.setdefault(path, digest) == digest for path, digest in made.items())
                same[one.name] = same.get(one.name, True) and complete and alike
    return results, same


def net(results: Mapping[int, list[Measured]]) -> tuple[int, Measured, Measured, float, float]:
    """Number of files; what they took and what one took; seconds and seconds of a processor a file net of start."""
    files = max(results)
    whole, start = least(results[files]), least(results[1])
    rest = max(files - 1, 1)
    return files, whole, start, (whole.seconds - start.seconds) / rest, (whole.cpu - start.cpu) / rest


def rows(results: Results, outputs: Mapping[str, bool], base: str) -> list[list[str]]:
    """The table; `x` is how many times as long as `base` each took."""
    of_base = net(results[base]) if base in results else None
    made = [HEAD]
    for name, of in results.items():
        files, whole, start, each, cpu = net(of)
        compared = ["", ""]
        if of_base is not None and not name.endswith(": discover"):
            compared[0] = f"{each / of_base[3]:.2f}" if min(each, of_base[3]) > 0 else ""
            compared[1] = f"{whole.seconds / of_base[1].seconds:.2f}" if files == of_base[0] else ""
        made.append(
            [
                name,
                str(files),
                f"{whole.seconds:.1f}",
                f"{start.seconds:.1f}",
                f"{each * 1e3:.2f}",
                f"{cpu * 1e3:.2f}",
                f"{1 / each:.0f}" if each > 0 else "",
                *compared,
                f"{whole.together:.0f}",
                {True: "same", False: "DIFFER", None: ""}[outputs.get(name)],
            ]
        )
    return made
