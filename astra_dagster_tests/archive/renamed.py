"""A mirror whose visits of DR17 become those of another reduction."""

from pathlib import Path


def rename_reduction(mirror: Path, apred: str) -> None:
    """Move all visits of the reduction dr17 to another one."""
    for path in (mirror / "dr17/apogee/spectro/redux/dr17/visit").rglob("*Visit-dr17-*.fits"):
        to = Path(str(path).replace("/redux/dr17/", f"/redux/{apred}/").replace("Visit-dr17-", f"Visit-{apred}-"))
        to.parent.mkdir(parents=True, exist_ok=True)
        path.rename(to)
