"""Find the files of a product on disk, by walking along its path template.

Only folders to which the template can lead are listed. A file whose name looks like the product's, but is not one, is
reported with the reason. What becomes of the findings is not decided here.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from astra_dagster.archive.links import Links
from astra_dagster.datamodel.keys import our_name
from astra_dagster.datamodel.products import DataID, Product, Where
from astra_dagster.datamodel.selection import Choice
from astra_dagster.datamodel.templates import AGAIN, COMPRESSIONS, Template
from astra_dagster.errors import AstraError, InvalidKeyError, LinkOutsideError, UnreachableError
from astra_dagster.files import open_file
from astra_dagster.presence import is_folder, make_unreachable_error

Place = tuple[str, int]
"""A folder to which a template leads, and the number of segments of the template that lead there."""

WINDOW = 20_000
"""Files that are held at a time: all of some folders, so there may be more."""

HASHED = "sha256-"
"""Prefix of a data version that is a hash of the file's contents."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a product on disk; its path is kept as text, which takes a tenth of the memory."""

    data_id: DataID
    location: str
    size: int
    mtime_ns: int

    @property
    def path(self) -> Path:
        """Path of the file."""
        return Path(self.location)

    @property
    def version(self) -> str:
        """Data version, made of size in bytes and modification time in nanoseconds."""
        return file_version(self.size, self.mtime_ns)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that looks like one of the product and is left out, with the reason.

    Attributes
    ----------
    error
        Set if it cannot be told what this is, or what it holds; then nothing may be concluded from it.
    """

    path: Path
    reason: str
    error: UnreachableError | None = None


def file_version(size: int, mtime_ns: int) -> str:
    """Return the data version of a file of this size in bytes and modification time in nanoseconds."""
    return f"{size}-{mtime_ns}"


def content_version(path: Path) -> str:
    """Return a data version from a file's contents: ``sha256-`` and the hash.

    Raises
    ------
    UnreachableError
        If the file cannot be read.
    """
    try:
        with open_file(path) as stream:
            return HASHED + hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise UnreachableError(f"cannot be read: {error.strerror}", path=path) from error


def walk_files(
    product: Product, release: str, root: Path, where: Where | None = None
) -> Iterator[tuple[list[FoundFile], list[Skipped]]]:
    """Find the files of a product and release below `root`, some thousands at a time.

    Parameters
    ----------
    where
        What is selected by part name, in the language of `datamodel.selection`. Other files are left out, and folders
        that hold only such files are not listed.

    Yields
    ------
    files, skipped
        All of some folders. A file and its compressed variant are one entry; the plain file wins. Where a release has
        two folders for a file, it may be there twice.

    Raises
    ------
    UnknownProductError, UnresolvableTemplateError, ConfigurationError
        If the product has no path in this release.
    InvalidKeyError
        If `where` names a part that the product lacks.
    """
    template = product.template(release)
    allowed = product.allowed(release, where or {})
    if allowed is None:
        return
    wanted = {key: allowed[part.name] for key, part in template.keys.items() if part.name in allowed}
    top = top_folder(template, root)
    links = Links(root)
    skipped: list[Skipped] = []
    found: dict[str, FoundFile] = {}
    folder = ""
    starts = starting_folders(template, root)
    for entry in chain.from_iterable(_walk_from(start, template, wanted, skipped, links) for start in starts):
        above = entry.path.rpartition("/")[0]
        if above != folder and len(found) + len(skipped) >= WINDOW:
            yield list(found.values()), skipped.copy()
            found.clear()
            skipped.clear()
        folder = above
        try:
            data_id = product.parse_path(entry.path, release, top)
            status = entry.stat()
            if entry.is_symlink():
                links.check(entry.path, data_id.key)
        except LinkOutsideError as error:
            skipped.append(_report_unreachable(Path(entry.path), error))
            continue
        except AstraError as error:
            skipped.append(Skipped(Path(entry.path), str(error)))
            continue
        except FileNotFoundError:  # it was removed just now
            continue
        except OSError as error:
            skipped.append(_report_unreachable(Path(entry.path), error))
            continue
        if data_id.matches(allowed):
            key = data_id.key
            other = found.get(key)
            if other is None or other.path.suffix in COMPRESSIONS:
                found[key] = FoundFile(data_id, entry.path, status.st_size, status.st_mtime_ns)
    yield list(found.values()), skipped


def top_folder(template: Template, root: Path) -> Path:
    """Return the folder to which the paths of a template are relative."""
    return root.parent if template.software else root


def starting_folders(template: Template, root: Path) -> list[Path]:
    """Return the folders below which the files of a template lie, whether they exist or not."""
    return list(dict.fromkeys(top_folder(template, root) / start for start in template.roots))


def _walk_from(
    start: Path, template: Template, wanted: Mapping[str, Choice], skipped: list[Skipped], links: Links
) -> Iterator[os.DirEntry[str]]:
    """Yield the entries below `start`, where the template starts, that may be files of it."""
    try:
        places: list[Place] = [(str(start), 0)] if is_folder(start) else []
    except UnreachableError as error:
        skipped.append(Skipped(start, error.without_key(), error))
        return
    yield from walk(places, template, wanted, skipped, links)


def walk(
    places: Iterable[Place], template: Template, wanted: Mapping[str, Choice], skipped: list[Skipped], links: Links
) -> Iterator[os.DirEntry[str]]:
    """Yield the entries in or below some folders that may be files of the template; see `list_folder`."""
    folders = list(places)
    while folders:
        folder, depth = folders.pop()
        try:
            links.check(folder)
            below, files = list_folder(folder, depth, template, wanted, skipped)
        except FileNotFoundError:  # it was removed just now
            continue
        except (OSError, UnreachableError) as error:
            skipped.append(_report_unreachable(Path(folder), error))
            continue
        folders += below
        yield from files


def list_folder(
    folder: str, depth: int, template: Template, wanted: Mapping[str, Choice], skipped: list[Skipped]
) -> tuple[list[Place], list[os.DirEntry[str]]]:
    """List what a template can lead to in one folder.

    Parameters
    ----------
    depth
        Number of segments of the template that lead to the folder.
    wanted
        What is selected by SDSS key; of other keys every text is allowed.
    skipped
        List to which entries are added that look like a part of the template and are none.

    Returns
    -------
    folders, files
        Folders to list next, each with its depth, and entries that may be files of the template.

    Raises
    ------
    OSError, UnreachableError
        If the folder cannot be listed. An entry that cannot be examined is returned, and raises when it is used.
    """
    segment = template.segments[depth]
    last = depth == len(template.segments) - 1
    folders: list[Place] = []
    files: list[os.DirEntry[str]] = []
    if not last and segment.fullmatch(""):
        # A special function may return an empty name, for which there is no folder.
        folders.append((folder, depth + 1))
    literal = re.sub(r"\\(.)", r"\1", segment.pattern)
    if not last and re.escape(literal) == segment.pattern:
        below = f"{folder}/{literal}"
        return [*folders, (below, depth + 1)] if is_folder(below) else folders, files
    lead = re.compile(_find_lead(segment.pattern))
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        name = _strip_compression(entry.name) if last else entry.name
        match = segment.fullmatch(name)
        if match is None and last:
            match = segment.fullmatch(entry.name) or segment.fullmatch(name + ".gz")
        if match is None:
            if last and lead.pattern and lead.match(entry.name) and _is_true_or_unknown(entry.is_file):
                files.append(entry)
            elif not last and segment.groupindex and entry.name[0].isdigit() and _is_true_or_unknown(entry.is_dir):
                skipped.append(Skipped(Path(entry.path), _say_no_folder(segment)))
        elif wanted and not _is_allowed(match, template, wanted):
            continue
        elif last:
            if _is_file(entry, skipped):
                files.append(entry)
        elif _is_true_or_unknown(entry.is_dir):
            folders.append((entry.path, depth + 1))
    return folders, files


def _is_true_or_unknown(asked: Callable[[], bool]) -> bool:
    """Call `asked`, which examines an entry; true if that fails, so that the entry is not passed over."""
    try:
        return asked()
    except OSError:
        return True


def _report_unreachable(path: Path, error: OSError | UnreachableError) -> Skipped:
    found = make_unreachable_error(error, path) if isinstance(error, OSError) else error
    return Skipped(path, found.without_key(), found)


def _say_no_folder(segment: re.Pattern[str]) -> str:
    name = our_name(next(iter(segment.groupindex)).partition(AGAIN)[0])
    return f"the folder's name is no {name}; nothing below it was looked at"


def _is_file(entry: os.DirEntry[str], skipped: list[Skipped]) -> bool:
    if _is_true_or_unknown(entry.is_file):
        return True
    skipped.append(Skipped(Path(entry.path), "not a file" if entry.is_dir() else "a link that leads nowhere"))
    return False


def _is_allowed(match: re.Match[str], template: Template, wanted: Mapping[str, Choice]) -> bool:
    for name, text in match.groupdict().items():
        key = name.partition(AGAIN)[0]
        if key in wanted and text:
            try:
                if template.keys[key].canonical(text) not in wanted[key]:
                    return False
            except InvalidKeyError:
                return True  # parsing the path gives the reason
    return True


def _strip_compression(name: str) -> str:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 (of each file of an archive)
    return stem if suffix in COMPRESSIONS and "." in stem else name


def _find_lead(pattern: str) -> str:
    """Return the literal beginning of a file name's pattern, by which a name looks like one of the product."""
    found = re.match(r"(?:a\[ps\]|\\.|[A-Za-z0-9_])*", pattern)
    return found.group() if found else ""
