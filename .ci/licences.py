"""The licences of everything that is installed with this package, as the table of `docs/reference/licences.md`.

``python .ci/licences.py`` writes the table, with ``--check`` it only compares. It goes by what the installed packages
say of themselves. A package under the GPL, of which a program that imports it would have to be as well, is an error;
the LGPL is none, as long as the library stays a package of its own.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "licences.md"
BEGIN, END = "<!-- begin: licences -->\n", "<!-- end: licences -->\n"
EXTRAS = ("dask", "postgres")
"""Those that are installed to run the package, and not to test or document it."""

GPL = re.compile(r"(?<!L)(?<!Lesser )(?<!Library )\b(?:A?GPL|GNU (?:Affero )?General Public)", re.IGNORECASE)
TEXTS = {
    "GNU LESSER GENERAL PUBLIC LICENSE": "LGPL",
    "GNU GENERAL PUBLIC LICENSE": "GPL",
    "GNU AFFERO GENERAL PUBLIC LICENSE": "AGPL",
    "Apache License": "Apache-2.0",
    "Permission is hereby granted, free of charge": "MIT",
    "Neither the name": "BSD-3-Clause",
    "Redistributions of source code must retain": "BSD-2-Clause",
}
"""Licences by words that only their texts have, the first that is found."""

UNKNOWN = "not told"

NAMES = {
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "BSD": "BSD",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL",
}
"""Short names of what the classifiers and packages call their licences."""


def installed(name: str, extras: tuple[str, ...] = ()) -> dict[str, Distribution]:
    """Return a package and all that it requires, by name."""
    found: dict[str, Distribution] = {}
    todo = [(name, extras)]
    seen = set()
    while todo:
        wanted = todo.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        try:
            package = distribution(wanted[0])
        except PackageNotFoundError:  # for another system or Python
            continue
        found[canonicalize_name(wanted[0])] = package
        for text in package.requires or ():
            required = Requirement(text)
            marker = required.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*wanted[1], "")):
                todo.append((canonicalize_name(required.name), tuple(sorted(required.extras))))
    return found


def licence_of(package: Distribution) -> str:
    """Return the licence that a package names: by its SPDX expression, its classifiers, or its own words."""
    said = package.metadata
    if expression := said.get("License-Expression"):
        return str(expression)
    classifiers = [c.rpartition(" :: ")[2] for c in said.get_all("Classifier", []) if c.startswith("License :: OSI Ap")]
    names = [c for c in classifiers if c != "OSI Approved"]
    own = " ".join(str(said.get("License") or "").split())
    if not names or (names == ["BSD License"] and re.fullmatch(r"BSD-\d-Clause", own)):
        names = [own if 0 < len(own) < 60 else recognise(package)]
    return ", ".join(NAMES.get(name, name) for name in names)


def recognise(package: Distribution) -> str:
    """Return the licence whose text a package holds."""
    for file in package.files or ():
        if re.search(r"dist-info/.*(licen[cs]e|copying)", str(file), re.IGNORECASE):
            text = " ".join(Path(str(file.locate())).read_text(errors="replace").split())
            if found := next((name for words, name in TEXTS.items() if words in text), None):
                return found
    return UNKNOWN


def table(packages: dict[str, Distribution]) -> Iterator[str]:
    """Yield the rows: one a licence, with the packages under it."""
    by_licence: dict[str, list[str]] = {}
    for name, package in sorted(packages.items()):
        by_licence.setdefault(licence_of(package), []).append(name)
    yield "| licence | packages |"
    yield "|---|---|"
    for licence, names in sorted(by_licence.items(), key=lambda item: item[0].lower()):
        yield f"| {licence} | {', '.join(names)} |"


def main() -> None:
    """Write the table, or compare it."""
    packages = installed("astra-dagster", EXTRAS)
    rows = "\n".join(table(packages))
    print(rows)
    wrong = [f"{name}: {licence_of(package)}" for name, package in packages.items() if GPL.search(licence_of(package))]
    wrong += [f"{name}: {UNKNOWN}" for name, package in packages.items() if licence_of(package) == UNKNOWN]
    if wrong:
        sys.exit(f"under the GPL, or nobody can tell: {'; '.join(wrong)}")
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    made = f"{before}{BEGIN}\n{rows}\n\n{END}{rest.partition(END)[2]}"
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(made)
    elif made != page:
        sys.exit(f"{PAGE.name} is not up to date: python .ci/licences.py writes it")
    print(f"{len(packages)} packages, none under the GPL")


if __name__ == "__main__":
    main()
