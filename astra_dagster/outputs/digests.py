"""What a parameters digest stands for, by the ``parameters.json`` of it and of the digests that it requires."""

import os
from dataclasses import replace

from astra_dagster import files
from astra_dagster.errors import ParameterError
from astra_dagster.outputs.companions import DigestMeaning, read_meaning
from astra_dagster.outputs.layout import PARAMETERS, digest_folder
from astra_dagster.tasks.task import Task

Root = str | os.PathLike[str]
"""Folder of all outputs."""


def meaning_of(root: Root, family: str, digest: str) -> DigestMeaning | None:
    """Return the meaning of a digest; None if its folder has no valid ``parameters.json``."""
    try:
        with files.open_file(f"{digest_folder(root, family, digest)}/{PARAMETERS}", os.O_NOFOLLOW) as stream:
            meaning = read_meaning(stream.read(files.SMALL))
        return meaning if (meaning.task, meaning.digest) == (family, digest) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def find_setting(root: Root, task: Task, digest: str) -> Task | None:
    """Return a task with the parameters of a digest, as `Task.setting` makes it; None if no setting leads there."""
    if task.digest(task.values()) == digest:
        return task
    meaning = meaning_of(root, task.family, digest)
    if meaning is None:
        return None
    requires = []
    digests = {one: meaning.required.get(name, "") for name, one in task.required_digests.items()}
    for item in task.requires:
        found = item.task and find_setting(root, item.task, digests[item.task.digest(item.task.values())])
        if item.task is not None and found is None:
            return None
        requires.append(replace(item, task=found))
    try:
        made = replace(task, defaults={**task.defaults, **meaning.parameters}, requires=tuple(requires))
    except ParameterError:
        return None
    return made if made.digest(made.values()) == digest else None


def list_changes(root: Root, digest: str, task: Task, place: str = "") -> tuple[str, ...]:
    """Return the parameters of a task, and of those that it requires, that differ from a digest, before and now.

    Parameters
    ----------
    place
        What to put before the names.
    """
    now = task.digest(task.values())
    meaning = meaning_of(root, task.family, digest)
    if meaning is None:
        return (f"{place.removesuffix('.') or 'digest'} {digest} -> {now}",)
    before, after = meaning.parameters, task.values().as_dict()
    changes = [
        f"{place}{name} {before.get(name, 'unset')} -> {after.get(name, 'unset')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    required = _name_upstream(task)
    for family in sorted({*meaning.required, *required}):
        was, item = meaning.required.get(family, "unset"), required.get(family)
        if item is None or was == "unset":
            changes.append(f"{place}{family} {was} -> {item.digest(item.values()) if item else 'unset'}")
        elif was != item.digest(item.values()):
            changes += list_changes(root, was, item, f"{place}{item.name}.")
    return tuple(changes)


def _name_upstream(task: Task) -> dict[str, Task]:
    """Return the tasks that a task requires, by the names that their digests have in its meaning."""
    tasks = {(item.family, item.digest(item.values())): item for item in reversed(task.upstream)}
    return {name: tasks[name.partition("#")[0], digest] for name, digest in task.required_digests.items()}
