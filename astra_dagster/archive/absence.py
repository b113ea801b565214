"""Tell whether a file that was here before was removed, or lies on a disk that is away at the moment.

Where a file was removed, its folder and other files in it remain. Where a disk is not mounted, there is an empty
folder, no folder, or a link that leads nowhere. So a file counts as removed only if its folder still holds other files
of its product; everything else may be an outage, from which nothing is concluded.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

from astra_dagster.archive.discovery import list_folder, top_folder
from astra_dagster.datamodel.products import DataID
from astra_dagster.errors import AwayError, UnreachableError
from astra_dagster.presence import is_folder, make_unreachable_error, status_of


@dataclass
class Absences:
    """The folders that were examined for outages, each of them once.

    Attributes
    ----------
    root
        The folder that SAS_BASE_DIR names.
    """

    root: Path
    _outages: dict[Path, UnreachableError | None] = field(default_factory=dict)

    def refuse_outage(self, data_id: DataID) -> None:
        """Check that a file which was here before, and is not here now, was removed.

        Raises
        ------
        AwayError
            If it may also be that its disk is away.
        UnreachableError
            If that cannot be told.
        """
        path = data_id.path(self.root)
        folder = path.parent
        if folder not in self._outages:
            self._outages[folder] = self._find_outage(folder, data_id)
        outage = self._outages[folder]
        if outage is not None:
            raise type(outage)(outage.message, key=data_id.key, path=outage.path, hint=outage.hint)
        if os.path.islink(path):  # noqa: PTH114 (false where that cannot be told)
            raise UnreachableError("cannot be looked at: a link that leads nowhere", key=data_id.key, path=path)

    def _find_outage(self, folder: Path, data_id: DataID) -> UnreachableError | None:
        template = data_id.product.template(data_id.release)
        top = top_folder(template, self.root)
        try:
            if is_folder(folder):
                if list_folder(str(folder), len(template.segments) - 1, template, {}, [])[1]:
                    return None
                place = folder
                what = f"holds no {data_id.product.name}" if any(folder.iterdir()) else "is empty"
            else:
                place = folder
                while place != top and status_of(place.parent) is None:
                    place = place.parent
                what = "is a link that leads nowhere" if place.is_symlink() else "is missing"
                if place != top and not any(place.parent.iterdir()):
                    place, what = place.parent, "is empty"
        except UnreachableError as error:
            return error
        except OSError as error:
            return make_unreachable_error(error, folder)
        return AwayError(
            f"was here before, and this folder {what} now",
            path=place,
            hint="mount its disk, or if its files were removed on purpose, run astra-dagster discover "
            f"--product {data_id.product.name} --release {data_id.release} --forget",
        )
