"""Real stars all of whose visits are in a mirror."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from astropy.io import fits


def stars_with_visits(mirrors: Iterable[Path]) -> list[tuple[Path, list[Path]]]:
    """The apStar files of several visits, each with the apVisit files that it names; without one the test skips."""
    found = []
    for root in mirrors:
        visits = {path.name: path for path in root.rglob("apVisit-*.fits")}
        for star in sorted(root.rglob("apStar-*.fits")):
            header = fits.getheader(star)
            names = [header.get(f"SFILE{i}") for i in range(1, header["NVISITS"] + 1)]
            if len(names) > 1 and all(name in visits for name in names):
                found.append((star, [visits[name] for name in names]))
    if not found:
        pytest.skip("no apStar file with all its visits; set ASTRA_TEST_SAS to a mirror that has some")
    return found
