"""Refuse files of the mirror that symbolic links lead out of it, to where the configuration does not allow reading.

Whoever can write to the mirror could otherwise have sensors and runs read any file of the service's user. Links within
the mirror are followed, and so is a mirror that is a link itself; folders that lie elsewhere on purpose are named in
``readable`` of the configuration file. Files are checked where they are found and where they are planned, not by the
readers: in Python, a person reads whatever that person may read.
"""

import contextlib
import json
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from astra_dagster import presence, settings
from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import LinkOutsideError


@dataclass
class Links:
    """Where the folders of a mirror really lie; each of them is examined once.

    An instance is made for one look at the disk, as what is known of a folder is not looked at again.

    Attributes
    ----------
    root
        Top of the mirror. The folder of a software product lies beside it, and is a mirror of its own.
    """

    root: Path
    _real: dict[str, str] = field(default_factory=dict)
    _allowed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for top in (self.root, self.root.parent):
            self._real[str(top)] = os.path.realpath(top)
        folders = (self._real[str(self.root)], *map(str, settings.readable_folders()))
        self._allowed = tuple(folder.rstrip("/") + "/" for folder in folders)

    def existing_path(self, data_id: DataID) -> Path | None:
        """Return the path of a file of the mirror, as `DataID.existing_path` does, after a check of it.

        Raises
        ------
        LinkOutsideError
            If the file may not be read.
        UnreachableError
            If it cannot be told whether there is such a file.
        """
        path = data_id.existing_path(self.root)
        if path is not None:
            self.check(path, data_id.key)
        return path

    def is_folder(self, path: Path, key: str | None = None) -> bool:
        """Whether a path is that of a folder, as `presence.is_folder` tells, after a check of it; raises alike."""
        there = presence.is_folder(path)
        if there:
            self.check(path, key)
        return there

    def file_status(self, path: str | Path) -> os.stat_result | None:
        """Return the status of a file that is no link, as most; None of anything else, and where that cannot be told.

        If the folder was checked, such a file lies where reading is allowed, and costs no other look.
        """
        try:
            status = os.lstat(path)
        except OSError:
            return None
        return status if stat.S_ISREG(status.st_mode) else None

    def check(self, path: str | Path, key: str | None = None) -> None:
        """Check that a file or folder lies where the configuration allows reading.

        It is examined, and so is each folder above it that was not examined before.

        Raises
        ------
        LinkOutsideError
            If it lies elsewhere. The error names the link, where it leads, and the line for the configuration file.
        """
        text = str(path)
        real = self._follow(text)
        if not f"{real}/".startswith(self._allowed) and not self._is_of_software(text, real):
            raise self._make_error(Path(text), key)

    def _follow(self, path: str) -> str:
        """Return where a path really leads; a link that leads nowhere counts as a file, which cannot be read."""
        if path in self._real:
            return self._real[path]
        if os.path.islink(path):  # noqa: PTH114 (of very many files; false where that cannot be told)
            with contextlib.suppress(OSError):
                return os.path.realpath(path, strict=True)
        folder, _, name = path.rpartition("/")
        if folder not in self._real:
            self._real[folder] = self._follow(folder) if folder else ""
        return f"{self._real[folder]}/{name}"

    def _is_of_software(self, path: str, real: str) -> bool:
        """Whether a path is that of a software product beside the mirror, and leads into the product's own folder."""
        beside = str(self.root.parent)
        name = path.removeprefix(f"{beside}/").partition("/")[0]
        return path.startswith(f"{beside}/") and f"{real}/".startswith(f"{self._real[beside]}/{name}/")

    def _make_error(self, path: Path, key: str | None) -> LinkOutsideError:
        link = next((place for place in (path, *path.parents) if place.is_symlink()), path)
        target = Path(os.path.realpath(link))
        folder = target if target.is_dir() else target.parent
        line = json.dumps([*settings.config().readable, str(folder)], ensure_ascii=False)
        return LinkOutsideError(
            f"may not be read: the symbolic link {link} leads out of the mirror, to {target}",
            key=key,
            path=path,
            hint=f"if that is meant, have this line in {settings.config_path() or 'astra.toml'}: readable = {line}",
        )
