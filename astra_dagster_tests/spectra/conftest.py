"""Files that both specutils and we can read."""

import shutil
from pathlib import Path

import pytest

from astra_dagster_tests.mirrors import NAMES
from astra_dagster_tests.spectra.loaded import PATTERNS, Files, RealFiles, complete
from astra_dagster_tests.spectra.synthetic import write_ap_star, write_aspcap_star, write_mwm


@pytest.fixture(scope="session")
def synthetic_files(synthetic: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files of the synthetic mirror with the cards that specutils needs, and small ones of the other products."""
    root = tmp_path_factory.mktemp("complete")
    for pattern in PATTERNS.values():
        for path in sorted(synthetic.rglob(pattern)):
            complete(Path(shutil.copy(path, root)))
    complete(write_ap_star(root / "apStar-r6-2M00000002+0000001.fits", 3))
    built = {
        "apStar of one visit": complete(write_ap_star(root / "one-visit.fits", 1)),
        "aspcapStar": write_aspcap_star(root / "aspcapStar.fits", gap_error=0),
        "mwmStar": complete(write_mwm(root / "mwmStar.fits", (0, 1, 1, 1))),
        "mwmVisit": complete(write_mwm(root / "mwmVisit.fits", (3, 0, 0, 0), star=False)),
    }
    files = {name: sorted(root.glob(pattern)) for name, pattern in PATTERNS.items()}
    return files | {name: [path] for name, path in built.items()}


@pytest.fixture
def real_files(real_mirrors: list[Path]) -> Files:
    """Those of all mirrors, of the products that they have."""
    found = {name: [p for root in real_mirrors for p in sorted(root.rglob(NAMES[name]))] for name in NAMES}
    return RealFiles({name: paths for name, paths in found.items() if paths})


@pytest.fixture(params=["synthetic", "real"])
def files(request: pytest.FixtureRequest) -> Files:
    return request.getfixturevalue(f"{request.param}_files")  # type: ignore[no-any-return]
