"""Divide partitions of a product among the runs to request.

Keys of a night or a plate follow one another: such a stretch is a range of partitions, and a run of assets takes one
range. Scattered keys go to the job that takes partitions by name.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import dagster as dg

from astra_dagster.datamodel.products import Product
from astra_dagster.errors import AstraError
from astra_dagster.orchestration.internals import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from astra_dagster.orchestration.partitions import chunks, registered

TO = "..."
"""Text between the first and the last key of a range, as on Dagster's command line; no key contains it."""

LONG = 100
"""Fewest keys of a stretch that has a run of its own, if there are several stretches."""


@dataclass(frozen=True)
class Request:
    """A run to be requested.

    Attributes
    ----------
    run_key
        Key of the run; Dagster makes one run of a key, however often it is requested.
    partitions
        Keys, and ranges of them as ``first...last``.
    number
        Number of partitions.
    assets
        Whether it is a run of the assets over one range; otherwise of the job that takes partitions by name.
    """

    run_key: str
    partitions: tuple[str, ...]
    number: int
    assets: bool

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Request":
        """Parse the text of a request."""
        values = json.loads(text)
        return cls(**{**values, "partitions": tuple(values["partitions"])})

    @property
    def range_tags(self) -> dict[str, str]:
        """Dagster's tags for the range of a run of assets."""
        first, _, last = self.partitions[0].partition(TO)
        return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last or first}


def requests_for(
    instance: dg.DagsterInstance, item: Product, asked: Mapping[str, str], most: int, *, assets: bool
) -> list[tuple[Request, list[str]]]:
    """Make as few requests as these partitions need, and return each with its keys.

    Parameters
    ----------
    asked
        Text that tells what is requested, by registered key: run keys are hashes of it.
    most
        Most partitions of a run.
    assets
        Whether the assets can be run over a range.
    """
    found = stretches(instance, item, asked)
    ranges = found if assets and len(found) == 1 else [stretch for stretch in found if assets and len(stretch) >= LONG]
    scattered = [stretch for stretch in found if stretch not in ranges]
    requests = [_request(item, [part], asked, assets=True) for stretch in ranges for part in chunks(stretch, most)]
    place = {key: i for i, stretch in enumerate(scattered) for key in stretch}
    for part in chunks(list(place), most):
        pieces: dict[int, list[str]] = {}
        for key in part:
            pieces.setdefault(place[key], []).append(key)
        requests.append(_request(item, list(pieces.values()), asked, assets=False))
    return requests


def _request(
    item: Product, pieces: Sequence[Sequence[str]], asked: Mapping[str, str], *, assets: bool
) -> tuple[Request, list[str]]:
    keys = [key for piece in pieces for key in piece]
    said = hashlib.sha256(repr([item.name, assets, *((key, asked[key]) for key in keys)]).encode()).hexdigest()
    spelled = (piece[0] if len(piece) == 1 else f"{piece[0]}{TO}{piece[-1]}" for piece in pieces)
    return Request(f"{item.asset_name}-{said[:24]}", tuple(spelled), len(keys), assets), keys


def stretches(instance: dg.DagsterInstance, item: Product, keys: Mapping[str, object]) -> list[list[str]]:
    """Return registered keys in their order, split where other keys lie between them."""
    found: list[list[str]] = [[]]
    for key in registered(instance, item):
        if key in keys:
            found[-1].append(key)
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]


def named(instance: dg.DagsterInstance, item: Product, partitions: Sequence[str]) -> list[str]:
    """Return the keys that are named one by one or as ranges.

    Raises
    ------
    AstraError
        If a key is not registered, or a range ends before it begins.
    """
    order = registered(instance, item)
    place = {key: i for i, key in enumerate(order)}
    keys: list[str] = []
    for text in partitions:
        first, _, last = text.partition(TO)
        last = last or first
        for key in (first, last):
            if key not in place:
                raise AstraError(
                    f"no such partition of {item.asset_name} is registered",
                    key=key,
                    hint=f"run astra-dagster discover --product {item.name}",
                )
        if place[last] < place[first]:
            raise AstraError(
                f"the range {text} ends before it begins", hint="ranges go in the order that the web UI shows"
            )
        keys += order[place[first] : place[last] + 1]
    return list(dict.fromkeys(keys))
