"""What cannot be used of the configuration, shown where it would be: the rest is there without it.

A package of tasks, a declaration or a file of definitions that is broken is an asset of the group `GROUP`: its
description says what is wrong, and a run of it fails with the same line. A table ``[watch.PRODUCT]`` that is wrong is a
sensor whose evaluation does so (`astra_dagster.orchestration.watch.sensors`).
"""

import re
from collections.abc import Iterable, Mapping

import dagster as dg

from astra_dagster.errors import AstraError
from astra_dagster.orchestration.causes import PlainFailure
from astra_dagster.orchestration.sources import asset_products
from astra_dagster.orchestration.watch.settings import broken_watches
from astra_dagster.tasks import registry

GROUP = "broken"
"""Asset group, and the beginning of the asset keys: no task's asset has such a key."""


def broken_parts() -> dict[str, AstraError]:
    """All that cannot be used of the configuration, and why, by names for people."""
    tables = {f"[watch.{name}]": error for name, error in broken_watches(asset_products()).items()}
    return {**registry.broken(), **tables}


def broken_assets(parts: Mapping[str, AstraError]) -> dg.Definitions:
    """An asset for each of these, named after it, that says what is wrong with it."""
    names = identifiers(parts)
    return dg.Definitions(assets=[_asset(names[part], error) for part, error in parts.items()])


def _asset(name: str, error: AstraError) -> dg.AssetsDefinition:
    line = str(error)

    @dg.asset(
        key=dg.AssetKey([GROUP, name]),
        group_name=GROUP,
        kinds={GROUP},
        description=f"This cannot be used, and the rest is there without it.\n\n{line}",
        metadata={"error": line, **({"file": dg.MetadataValue.path(error.path)} if error.path else {})},
    )
    def asset() -> None:
        raise PlainFailure(line)

    return asset


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """For each of these names one of letters, digits and _ that Dagster takes; no two are the same."""
    found: dict[str, str] = {}
    for name in names:
        text = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or GROUP
        while text in found.values():
            text += "_"
        found[name] = text
    return found
