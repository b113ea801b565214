"""What an outage does to a folder of a mirror, as root can have it too: permissions do not keep root out."""

import itertools
from collections.abc import Callable
from pathlib import Path

Undo = Callable[[], None]

_numbers = itertools.count()


def empty(folder: Path) -> Undo:
    """Its disk is not mounted: the folder to mount it on is there."""
    put_back = missing(folder)
    folder.mkdir()

    def undo() -> None:
        folder.rmdir()
        put_back()

    return undo


def unlinked(path: Path) -> Undo:
    """It is a link to a disk that is not mounted; of a file, too."""
    return _linked(path, Path("nowhere"))


def circle(path: Path) -> Undo:
    """Nobody can tell what is there: a link that leads back to itself; of a file, too."""
    return _linked(path, path)


def missing(path: Path) -> Undo:
    """It is not there at all; a file that is not was removed, if others of its folder are."""
    aside = path.rename(path.parent.parent / f".{path.name}-{next(_numbers)}")

    def undo() -> None:
        aside.rename(path)

    return undo


def _linked(path: Path, target: Path) -> Undo:
    put_back = missing(path)
    path.symlink_to(target)

    def undo() -> None:
        path.unlink()
        put_back()

    return undo


OUTAGES = (empty, unlinked, circle, missing)
