"""Variants of tasks that are declared in YAML, in the ``defs.yaml`` files of a folder.

::

    type: astra_dagster.SpectrumTask
    attributes:
      task: ap_visit_continuum
      name: order5
      parameters: {order: 5}
      releases: [DR17]

means ``ap_visit_continuum.variant("order5", order=5, releases=["DR17"])``. Dagster loads the same files as components
(`astra_dagster.orchestration.component`); this module reads them without Dagster, because every run and every command
must know the same tasks. It ignores documents of other types.
"""

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from astra_dagster.errors import AstraError, ConfigurationError, nearest
from astra_dagster.files import read_text
from astra_dagster.tasks.task import Task, all_tasks

TYPE = "astra_dagster.SpectrumTask"
_ATTRIBUTES: Mapping[str, tuple[type, str]] = {
    "task": (str, "the name of a task"),
    "name": (str, "lower-case letters, digits and _"),
    "parameters": (dict, "names and values, for example {order: 5}"),
    "releases": (list, "a list of releases, for example [DR17]"),
}


@dataclass(frozen=True)
class Declared:
    """A variant, and the file and line where it is declared."""

    task: Task
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Declarations:
    """The declarations in the files of a folder.

    Attributes
    ----------
    variants
        Valid declarations by name.
    broken
        Errors of invalid declarations by the name of the variant, or by file and line if it has no usable name.
    """

    variants: Mapping[str, Declared]
    broken: Mapping[str, ConfigurationError]


@functools.lru_cache(maxsize=8)  # so that each task is one object in a process
def read_declared(folder: Path, tasks: tuple[Task, ...], taken: frozenset[str]) -> Declarations:
    """Read the variants that are declared in a folder and in the folders below it.

    Parameters
    ----------
    tasks
        Tasks that can have variants.
    taken
        Names of other assets, which no variant can have.
    """
    known = {task.name: task for task in tasks}
    found: dict[str, Declared] = {}
    broken: dict[str, ConfigurationError] = {}
    for path in _files(folder):
        try:
            documents = list(_documents(path))
        except ConfigurationError as error:
            broken[str(path.relative_to(folder))] = error
            continue
        for document in documents:
            try:
                task = document.task(known)
                _check_names(task, document, tasks, taken, found)
            except ConfigurationError as error:
                name = document.name
                place = f"{path.relative_to(folder)}:{document.line()}"
                broken[name if name and name not in {*found, *broken, *taken} else place] = error
            else:
                found[task.name] = Declared(task, path, document.line())
    return Declarations(MappingProxyType(found), MappingProxyType(broken))


def _check_names(
    task: Task, document: "_Document", tasks: Sequence[Task], taken: Collection[str], found: Mapping[str, Declared]
) -> None:
    """Check that no other asset has the name of an asset of a variant; of two declarations the first is kept.

    A variant that it requires because it shares parameters may be there already.
    """
    try:
        all_tasks([*tasks, *(item.task for item in found.values() if item.task.name != task.name), task])
    except ValueError as error:
        raise document.error(str(error), "give one another name", "name") from None
    places = {name: item for item in found.values() for name in _assets(item.task)}
    for name in _assets(task):
        if name in taken or name in places:
            where = f"at {places[name]}" if name in places else "already"
            raise document.error(f"there is an asset {name} {where}", "give one another name", "name")


def _assets(task: Task) -> tuple[str, str]:
    return task.name, f"{task.name}_table"


def _files(folder: Path) -> list[Path]:
    """Return the files that Dagster reads as definitions; of two in one folder, only ``defs.yaml``."""
    found = {path.parent: path for path in sorted(folder.rglob("defs.y*ml"), reverse=True)}
    named = (path for path in found.values() if path.name in ("defs.yaml", "defs.yml"))
    return sorted(path for path in named if not any(part.startswith(".") for part in path.relative_to(folder).parts))


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """A loader that reads dates as text, as Dagster does."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the name is PyYAML's)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@dataclass(frozen=True)
class _Document:
    path: Path
    node: yaml.Node
    value: Mapping[str, Any]

    def line(self, *keys: str | int) -> int:
        """Return the line of the value at these keys, or of its nearest parent that exists."""
        node, line = self.node, self.node.start_mark.line
        for key in keys:
            if isinstance(node, yaml.MappingNode):
                pairs = {name.value: (name, value) for name, value in node.value if isinstance(name, yaml.ScalarNode)}
                if str(key) not in pairs:
                    break
                name, node = pairs[str(key)]
                line = name.start_mark.line
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                node = node.value[key]
                line = node.start_mark.line
        return int(line) + 1

    @property
    def name(self) -> str | None:
        """Name of the variant; None if the document does not give its parts."""
        given = self.value.get("attributes")
        parts = (given.get("task"), given.get("name")) if isinstance(given, dict) else ()
        named = [part for part in parts if isinstance(part, str) and part]
        return "_".join(named) if len(named) == 2 else None

    def error(self, message: str, hint: str | None, *keys: str | int) -> ConfigurationError:
        """Make an error about the value at these keys of the attributes."""
        where = f"{self.path}:{self.line('attributes', *keys)}"
        return ConfigurationError(f"{where}: {message}", path=self.path, hint=hint)

    def task(self, known: Mapping[str, Task]) -> Task:
        """Make the variant that is declared."""
        given = self._attributes()
        task = known.get(given["task"])
        if task is None:
            hint = f"{nearest(given['task'], known)}; variants are of tasks in Python"
            raise self.error(f"no task {given['task'][:80]!r}", hint, "task")
        if given["name"].startswith(f"{task.name}_"):
            short = given["name"].removeprefix(f"{task.name}_")
            raise self.error("the name of the task is put before the name", f"write name: {short}", "name")
        self._check(task, given["parameters"])
        for i, name in enumerate(given["releases"]):
            try:
                task.variant("x", releases=[name])
            except AstraError as error:
                raise self.error(error.message, error.hint, "releases", i) from None
        try:
            return task.variant(given["name"], releases=given["releases"], **given["parameters"])
        except ValueError as error:
            raise self.error(str(error), None, "name") from None

    def _attributes(self) -> dict[str, Any]:
        given = self.value.get("attributes")
        if not isinstance(given, dict):
            raise self.error("attributes are missing", f"{TYPE} takes {', '.join(_ATTRIBUTES)}")
        found: dict[str, Any] = {"parameters": {}, "releases": []}
        for key, value in given.items():
            if key not in _ATTRIBUTES:
                raise self.error(f"no attribute {key!r}", nearest(key, _ATTRIBUTES), key)
            kind, expected = _ATTRIBUTES[key]
            if not isinstance(value, kind) or value == "":
                raise self.error(f"{key} cannot be {value!r}", f"expected {expected}", key)
            found[key] = value
        for key in ("task", "name"):
            if key not in found:
                raise self.error(f"{key} is missing", f"expected {_ATTRIBUTES[key][1]}")
        return found

    def _check(self, task: Task, given: Mapping[str, Any]) -> None:
        """Check all parameters together, as they may depend on one another; the error names one that is wrong alone."""
        for name, value in given.items():
            if not isinstance(name, str):
                raise self.error(f"no parameter {name!r}", None, "parameters", name)
            if isinstance(value, str) and "{{" in value:
                hint = "write the value itself: parameters are part of what a result is"
                raise self.error(f"{name} cannot be a template", hint, "parameters", name)
        told = _refused(task, given)
        if told is None:
            return
        for name, value in given.items():
            own = _refused(task, {name: value})
            if own is not None:
                text = "this is text in YAML: a number has no quotes, and a point if it has an exponent, 1.0e-3"
                raise self.error(own[0], text if _is_number(value) else own[1], "parameters", name)
        raise self.error(*told, "parameters")


def _refused(task: Task, given: Mapping[str, Any]) -> tuple[str, str | None] | None:
    try:
        task.setting(given)
    except AstraError as error:
        return error.message, error.hint
    return None


def _is_number(value: object) -> bool:
    try:
        return isinstance(value, str) and float(value) is not None
    except ValueError:
        return False


def _documents(path: Path) -> Iterator[_Document]:
    """Yield the documents of a file that declare variants."""
    text = ""
    try:
        text = read_text(path)
        loader = _Loader(text)
        while loader.check_node():
            node = loader.get_node()
            repeated = _repeated(node)
            value = loader.construct_document(node)
            if isinstance(value, dict) and value.get("type") == TYPE:
                if repeated is not None:
                    line = repeated.start_mark.line + 1
                    raise ConfigurationError(
                        f"{path}:{line}: {repeated.value} stands here twice", path=path, hint="remove one"
                    )
                yield _Document(path, node, value)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigurationError(
            f"{path}:{line}: this is not YAML: {error.problem or error.context}", path=path
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigurationError(f"{path}:{line}: this is not YAML: {error.reason}", path=path) from None
    except (OSError, yaml.YAMLError, ValueError, KeyError, RecursionError) as error:
        raise ConfigurationError(f"{path}:1: this cannot be read: {error}", path=path) from None


def _repeated(node: yaml.Node, depth: int = 3) -> yaml.ScalarNode | None:
    """Return a key that occurs twice in the document, its attributes or parameters; YAML would use the last."""
    seen = set()
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                return key
            seen.add(key.value)
        below = _repeated(value, depth - 1) if depth > 1 else None
        if below is not None:
            return below
    return None
