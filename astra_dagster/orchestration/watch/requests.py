"""Partitions to runs: which runs to request for some partitions of a product, and how they name them.

Keys that were registered together follow one another: such a stretch is a range of partitions, and a run of assets
takes one. What lies scattered goes to the job that takes partitions by name.
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
"""Between the first and the last key of a range, as on Dagster's own command line; no key contains it."""

LONG = 100
"""Keys that are worth a run over a range of their own, if there are others."""

NEWEST = 1_000
"""How many more of the newest keys are looked at than are looked for, before all are."""


@dataclass(frozen=True)
class Request:
    """A run to be requested.

    Attributes
    ----------
    run_key
        Dagster makes one run of it, however often it is requested.
    partitions
        Keys, and ranges of them as ``first...last``.
    number
        Of partitions.
    assets
        Whether it is a run of the assets, over its one range; else of the job that takes partitions by name.
    """

    run_key: str
    partitions: tuple[str, ...]
    number: int
    assets: bool

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> "Request":
        """Request from its text."""
        values = json.loads(text)
        return cls(**{**values, "partitions": tuple(values["partitions"])})

    @property
    def range_tags(self) -> dict[str, str]:
        """Tags by which Dagster knows the range of a run of assets."""
        first, _, last = self.partitions[0].partition(TO)
        return {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last or first}


def requests_for(
    instance: dg.DagsterInstance, item: Product, asked: Mapping[str, str], most: int, *, assets: bool
) -> list[tuple[Request, list[str]]]:
    """As few runs as take these partitions, each with the keys that it takes.

    Parameters
    ----------
    asked
        By registered key what is asked for: run keys are hashes of it.
    most
        Partitions in a run.
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
    """Registered keys in the order of their registration, split where others are in between."""
    newest = instance.get_paginated_dynamic_partitions(item.asset_name, limit=len(keys) + NEWEST, ascending=False)
    order: Sequence[str] = newest.results[::-1]
    if not keys.keys() <= set(order):
        order = registered(instance, item)
    found: list[list[str]] = [[]]
    for key in order:
        if key in keys:
            found[-1].append(key)
        elif found[-1]:
            found.append([])
    return [stretch for stretch in found if stretch]


def named(instance: dg.DagsterInstance, item: Product, partitions: Sequence[str]) -> list[str]:
    """Keys that are named by themselves or by ranges.

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
            raise AstraError(f"the range {text} ends before it begins", hint="ranges go in the order of registration")
        keys += order[place[first] : place[last] + 1]
    return list(dict.fromkeys(keys))
