"""Look at nights: plan all tasks over the partitions of a night, and write its page.

The pages lie in the folder ``nights`` of the outputs, with a list of all of them. The watch of a product writes those
of a night when a run over its files has ended.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import dagster as dg

from astra_dagster import settings
from astra_dagster.archive.watch_state import Watch
from astra_dagster.datamodel.products import DataID, Where
from astra_dagster.datamodel.releases import release
from astra_dagster.errors import (
    AstraError,
    InvalidKeyError,
    UnknownProductError,
    UnknownReleaseError,
    UnresolvableTemplateError,
)
from astra_dagster.orchestration.partitions import select_stems
from astra_dagster.orchestration.records import DagsterLedger
from astra_dagster.orchestration.sources import make_planner
from astra_dagster.outputs import layout
from astra_dagster.outputs.layout import NIGHT
from astra_dagster.outputs.store import OutputStore
from astra_dagster.planning.ledger import Selection, select_keys
from astra_dagster.tasks import registry
from astra_dagster.tasks.groups import Domain
from astra_dagster.tasks.task import Task

if TYPE_CHECKING:  # takes pyarrow along, which is slow to import
    from astra_dagster.night.report import Night

NOT_OF_PRODUCT = (InvalidKeyError, UnknownProductError, UnknownReleaseError, UnresolvableTemplateError)
"""Errors of a selection by what a product does not have: a part of the key, or a release."""

DUE = "nights"
"""Name of a fact of the watch: the nights whose pages are to be written."""


def find_nights(instance: dg.DagsterInstance, given: Sequence[str], chosen: Selection) -> list[str]:
    """Return the registered nights that are given: numbers, ranges and patterns; the last one if none is given.

    Raises
    ------
    InvalidKeyError, UnknownReleaseError
        If no partition of a night is registered, or no product has what is selected.
    """
    for name in chosen.releases:
        release(name)
    where = {**chosen.where, **({NIGHT: list(given)} if given else {})}
    ledger = DagsterLedger(instance)

    def select(domain: Domain, selection: Selection) -> Sequence[str]:
        """Select a key of each night, which are few, or all keys."""
        first = select_stems(instance, domain, selection) if NIGHT in domain.parts[:-1] else None
        return select_keys(ledger, domain, selection) if first is None else first

    by_domain, refused = _select(select, Selection(chosen.releases, where))
    found = {key.split("/")[1 + domain.parts.index(NIGHT)] for domain, keys in by_domain.items() for key in keys}
    if not found:
        said = f"no partition of night {', '.join(given)} is registered" if given else "no night is registered"
        hint = str(refused[0]) if refused else "run astra-dagster discover, or name another night or release"
        raise InvalidKeyError(said, hint=hint)
    nights = sorted(found, key=lambda text: (len(text), text))
    return nights if given else nights[-1:]


def make_night(instance: dg.DagsterInstance, mjd: str, chosen: Selection) -> "Night":
    """Plan all tasks over the partitions of a night, and summarise them; nothing is computed or recorded.

    Raises
    ------
    AstraError
        If SAS_BASE_DIR is not set, or the outputs cannot be found.
    """
    from astra_dagster.night.report import summarise

    outputs = settings.outputs_dir()
    planner = make_planner(instance, outputs, settings.sas_base_dir())
    where: Where = {**chosen.where, NIGHT: mjd}
    by_domain, _ = _select(partial(select_keys, planner.ledger), Selection(chosen.releases, where))
    plans = []
    for task in _tasks():
        releases = task.releases
        keys = [key for key in by_domain[task.domain] if not releases or key.partition("/")[0] in releases]
        if keys:
            plans.append(planner.plan(OutputStore(outputs, task, task.values()), keys))
    return summarise(mjd, plans)


def write_night(night: "Night") -> Path:
    """Write the page of a night, and the list of all nights; return the path of the page.

    Raises
    ------
    OutputError
        If a page cannot be written.
    """
    from astra_dagster.night.page import write_list, write_page

    outputs = settings.check_outputs_dir()
    web = settings.config().web_url.rstrip("/")
    digests = {task.task: task.digest for task in night.tasks}

    def link(task: str, key: str) -> str:
        return f"{web}/assets/{task}?view=partitions&partition={quote(key, safe='')}"

    def spectrum(task: str, key: str) -> str:
        page = layout.page_path(task, digests[task], key)
        return f"../{quote(page)}" if (outputs / page).is_file() else ""

    path = outputs / layout.night_path(night.mjd)
    write_page(path, night, link, spectrum)
    write_list(path.parent)
    return path


def remember(watch: Watch, data_ids: Iterable[DataID | None]) -> None:
    """Remember that the pages of the nights of some files are to be written; within a transaction."""
    known = {one.values[NIGHT] for one in data_ids if one is not None and NIGHT in one.values}
    due = {*(watch.fact(DUE) or "").split(), *known}
    watch.note(DUE, " ".join(sorted(due)))


def write_due(instance: dg.DagsterInstance, watch: Watch, deadline: float) -> list[str]:
    """Write the pages that are due until the deadline, the others at the next tick; return why some cannot be."""
    due = (watch.fact(DUE) or "").split()
    problems = []
    while due and time.monotonic() < deadline:
        mjd = due.pop()
        try:
            write_night(make_night(instance, mjd, Selection()))
        except AstraError as error:
            problems.append(f"the page of night {mjd} is not written: {error}")
        with watch.transaction():
            watch.note(DUE, " ".join(due))
    return problems


def _select(
    select: Callable[[Domain, Selection], Sequence[str]], selection: Selection
) -> tuple[dict[Domain, Sequence[str]], list[InvalidKeyError]]:
    """Return the selected partitions of tasks by night, and what is wrong with the selection for some of them."""
    found: dict[Domain, Sequence[str]] = {}
    refused: list[InvalidKeyError] = []
    for domain in {task.domain: None for task in _tasks()}:
        found[domain] = []
        try:
            found[domain] = select(domain, selection)
        except NOT_OF_PRODUCT as error:
            refused += [error] if isinstance(error, InvalidKeyError) else []
    return found, refused


def _tasks() -> list[Task]:
    return [task for task in registry.tasks().values() if NIGHT in task.domain.parts]
