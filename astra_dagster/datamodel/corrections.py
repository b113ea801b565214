"""Corrections of the SDSS tree: path templates that differ from the tree's, because the files of the archive do.

Each correction has its sources beside it. The names of real files that led to them, and those that agree with the
tree, are in a table of the tests (``astra_dagster_tests/datamodel/real_names.tsv``). How a template is read is not
decided here (see `templates`); what ``@fullfolder|`` stands for is, as for all special functions, in `special`.
"""

from collections.abc import Mapping
from types import MappingProxyType

_ASPCAP_STAR = "$APOGEE_REDUX/{apred}/{apstar}/{aspcap}/{results}"
_SPEC = "{plateid:0>4}/spec-{plateid:0>4}-{mjd}-{fiberid:0>4}.fits"
_SPEC_SDSSV = "{fieldid:0>5}p/{mjd}/spec-{fieldid:0>5}-{mjd}-{catalogid:0>11}.fits"

_TABLE: tuple[tuple[tuple[str, ...], str, str], ...] = (
    # The reduction is part of the file's name: aspcapStar-r5-v603-..., aspcapStar-r8-l31c.2-...
    #   https://github.com/jobovy/apogee (apogee/tools/path.py)
    #   https://github.com/henrysky/astroNN (astroNN/apogee/downloader.py)
    (
        ("DR12", "DR13", "DR14", "DR15"),
        "aspcapStar",
        _ASPCAP_STAR + "/{location}/aspcapStar-{apred}-{results}-{obj}.fits",
    ),
    (
        ("DR12", "DR13", "DR14", "DR15"),
        "aspcapStar-1m",
        _ASPCAP_STAR + "/{field}/aspcapStar-{apred}-{results}-{reduction}.fits",
    ),
    # DR8 has the SDSS spectrographs only, and so one folder of reductions.
    #   https://github.com/astropy/astroquery (astroquery/sdss/tests/test_sdss_remote.py: DR8 to DR18)
    #   https://dr16.sdss.org/optical/spectrum/view/data/access ("'sdss' for DR8")
    (("DR8",), "spec", "$SPECTRO_REDUX/{run2d}/spectra/" + _SPEC),
    # Until DR15, plates lie in the folder spectra itself, beside the folder lite; there is no folder full.
    #   https://www.sdss3.org/dr9/data_access/bulk.php, https://www.sdss3.org/dr10/data_access/bulk.php
    #   https://github.com/astropy/astroquery/issues/2219 (DR14, and that DR16 has new folders)
    #   https://github.com/Heptazhou/SDSS-SpecViewer (test/sdss.jl: DR9 to DR15)
    (
        ("DR9", "DR10", "DR11", "DR12", "DR13", "DR14", "DR15"),
        "spec",
        "@spectrodir|/{run2d}/spectra/" + _SPEC,
    ),
    # In DR16 and DR17, those of BOSS and eBOSS lie in full, those of the SDSS spectrographs where they always did.
    #   https://www.sdss4.org/dr17/data_access/bulk/
    #   https://github.com/astropy/astroquery (astroquery/sdss/tests/test_sdss.py: url_tester_spectra)
    (("DR16", "DR17"), "spec", "@spectrodir|/{run2d}/spectra/@fullfolder|/" + _SPEC),
    # Fields have five digits: the reduction eFEDS is one field, 00000.
    #   https://github.com/onurcatmabacak/AGNEmissionLines_ThirdPartyLibraries (pipeline/fetch_efeds.py)
    (("DR18",), "specLite", "$BOSS_SPECTRO_REDUX/{run2d}/spectra/lite/" + _SPEC_SDSSV),
    (("DR18",), "specFull", "$BOSS_SPECTRO_REDUX/{run2d}/spectra/full/" + _SPEC_SDSSV),
)


def _collect() -> Mapping[str, Mapping[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for trees, product, template in _TABLE:
        for name in trees:
            found.setdefault(name, {})[product] = template
    return MappingProxyType({name: MappingProxyType(templates) for name, templates in found.items()})


CORRECTIONS: Mapping[str, Mapping[str, str]] = _collect()
"""Templates by tree and product that take the place of the tree's."""
