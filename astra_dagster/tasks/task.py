"""The task: parameters, requirements, a function and an output, without Dagster."""

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

from astra_dagster.datamodel.products import DataID, Product
from astra_dagster.errors import ConfigurationError
from astra_dagster.spectra.readers import Reader, find_reader
from astra_dagster.tasks.calling import call_task
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.files.common_files import CommonFile
from astra_dagster.tasks.files.forms import Form
from astra_dagster.tasks.groups import Domain, PartIndex, PartitionID, Parts
from astra_dagster.tasks.parameters import Parameters, descriptions, digest

RESERVED = frozenset(["also", "data_ids", "fetch", "overwrite", "releases", "where"])
"""Names that no parameter may have, because a run or a function takes them beside the parameters."""
Find = Callable[[DataID, Path], Iterable[Parts]]
"""Function from a data ID and its file to the parts of the data IDs that belong to it."""


@dataclass(frozen=True)
class Requirement:
    """A requirement of a task for each of its partitions: files of a product, or results of another task.

    Attributes
    ----------
    partitions
        Domain of the required partitions.
    task
        The required task; None if files of the product are required.
    domain
        Domain of the task that has this requirement.
    find
        Finds the many partitions that belong to one file; None for groups and for partitions of the same key.
    form
        How the function receives the files of the product; None for what its reader makes, or paths if it has none.
    """

    partitions: Domain
    task: "Task | None"
    domain: Domain
    find: Find | None = None
    form: Form | None = None

    @property
    def product(self) -> Product:
        """Product of the required files, or of the files that the required results are made from."""
        return self.partitions.product

    @property
    def asset_name(self) -> str:
        """Name of the asset whose partitions are required."""
        return self.partitions.asset_name if self.task is None else self.task.name

    @property
    def reader(self) -> Reader | None:
        """The reader that makes spectra of the files; None for results, and files that the function itself receives."""
        return find_reader(self.product.name) if self.task is None and self.form is None else None

    @property
    def one_to_one(self) -> bool:
        """Whether a partition requires the one with the same key; otherwise it requires many, as a list."""
        return self.find is None and self.partitions == self.domain

    def index(self, keys: Iterable[str]) -> PartIndex:
        """Make an index of keys of the required partitions, for `members`."""
        return PartIndex(self.partitions, keys)

    def members(self, one: PartitionID, path: Path | None, index: PartIndex) -> list[str]:
        """Return the keys that one partition of the domain requires, in the order of the index.

        Parameters
        ----------
        one, path
            The partition, and the path of its file; None if it is a group or the file does not exist yet.
        index
            Known keys of the required partitions.
        """
        if self.one_to_one:
            return [one.key]
        wanted: Iterable[Parts] = [dict(zip(self.domain.parts, one.parts, strict=True))]
        if self.find is not None:  # then the domain is a product
            wanted = self.find(cast(DataID, one), path) if path else []
        return list(dict.fromkeys(key for parts in wanted for key in index.lookup(one.release, parts)))


def requirement_of(item: object) -> Requirement:
    """Convert a product or a task to a requirement; requirements from `grouped` and `matching` stay as they are.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(item, Requirement):
        return item
    if isinstance(item, Task):
        return Requirement(item.domain, item, item.domain)
    if isinstance(item, Product):
        return Requirement(item, None, item)
    raise ValueError(f"a task requires products, tasks and files, not {item!r}")


@dataclass(frozen=True, eq=False)
class Task:
    """An analysis, partition by partition. Make one with `spectrum_task`.

    Attributes
    ----------
    name
        Name of the task and its asset, for example ``ap_visit_snr``.
    requires
        Requirements, given as products, tasks or requirements; the function receives their contents in this order.
    common
        Files that the partitions have in common, by their places among the arguments of the function, or of the setup.
    setup
        Function that is called once in each worker with the files in common and the parameters; the function of the
        task receives what it returns, before the parameters, in place of the files. None if there is nothing to set up.
    batch_size
        Largest number of spectra for which the function is called at a time; None for that of a chunk of files.
    takes_data_ids
        Whether the function has an argument `data_ids`, for the data ID of each spectrum.
    files
        Suffixes of the files that the function makes besides, by the names of their columns; the results hold the names
        of the files.
    parameters
        Class of the parameters.
    version
        Code version; change it when the same input and parameters give other results.
    function
        Function from inputs and parameters to columns of n values each, or to a batch of n spectra whose metadata
        hold the columns.
    columns
        Columns that the function promises: all that it returns, or none.
    output
        "json" for columns alone, "fits" for spectra.
    wavelength
        Whether the function uses wavelengths; reading is faster without them.
    bitmask
        Whether the function uses the survey's own pixel mask.
    description
        What the task does, for people.
    family
        Name of the task that this is a variant of, or its own name. Variants share the folder of outputs, as their
        parameters digests differ.
    defaults
        Parameters of a variant that differ from the defaults of the class.
    module
        Name of the module that defines the task.
    releases
        Releases that a run takes by default; all if empty.
    """

    name: str
    requires: tuple[Requirement, ...]
    parameters: type[Parameters]
    version: str
    function: Callable[..., Any]
    columns: Mapping[str, Column] = field(default_factory=dict)
    output: Literal["json", "fits"] = "json"
    wavelength: bool = True
    bitmask: bool = False
    description: str = ""
    family: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""
    releases: tuple[str, ...] = ()
    common: Mapping[int, CommonFile] = field(default_factory=dict)
    setup: Callable[..., Any] | None = None
    batch_size: int | None = None
    takes_data_ids: bool = False
    files: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,99}", self.name):
            raise ValueError(f"the name of a task must be lower-case letters, digits and _, not {self.name!r}")
        if not isinstance(self.version, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", self.version):
            raise ValueError(f"version of {self.name} must be letters, digits, _ or -, not {self.version!r}")
        taken = RESERVED & set(descriptions(self.parameters))
        if taken:
            raise ValueError(
                f"{self.name} cannot have a parameter {', '.join(sorted(taken))}: runs have one themselves"
            )
        object.__setattr__(self, "requires", tuple(map(requirement_of, self.requires)))
        object.__setattr__(self, "common", dict(sorted(self.common.items())))
        domains = {requirement.domain for requirement in self.requires}
        if len(domains) != 1:
            found = ", ".join(sorted(domain.name for domain in domains)) or "nothing"
            raise ValueError(f"{self.name} requires {found}: what it requires must have the same partitions")
        if not self.family:
            object.__setattr__(self, "family", self.name)
        for name, suffix in self.files.items():
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not re.fullmatch(r"[a-z0-9]{1,8}", suffix):
                raise ValueError(f"a file of {self.name} cannot be {name!r}: {suffix!r}; plot: png is one, for example")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"the batch size of {self.name} must be at least 1, not {self.batch_size}")
        self.values()

    @property
    def domain(self) -> Domain:
        """The partitions of the task."""
        return self.requires[0].domain

    @cached_property
    def opened(self) -> frozenset[int]:
        """Places of the arguments that do not hold something of each spectrum: files, and what the setup returned."""
        forms = [requirement.form for requirement in self.requires]
        if self.setup is not None:
            return frozenset({len(forms), *(place for place, form in enumerate(forms) if form)})
        places = [place for place in range(len(forms) + len(self.common)) if place not in self.common]
        return frozenset(self.common) | {place for place, form in zip(places, forms, strict=True) if form}

    @property
    def upstream(self) -> tuple["Task", ...]:
        """Tasks that it requires directly."""
        return tuple(item.task for item in self.requires if item.task is not None)

    @cached_property
    def chain(self) -> tuple["Task", ...]:
        """All tasks that must run for it, in order; itself the last."""
        found: dict[str, Task] = {}
        for task in self.upstream:
            found.update((item.name, item) for item in task.chain)
        return (*found.values(), self)

    def values(self, given: Mapping[str, Any] | None = None) -> Parameters:
        """Make parameters with these values, and the task's defaults for all others.

        Raises
        ------
        ParameterError
            If there is no parameter of a name, or a value is not valid.
        """
        return self.parameters.from_mapping({**self.defaults, **(given or {})})

    def digest(self, parameters: Parameters) -> str:
        """Return the digest of these parameters and of the tasks that it requires: the identity of its results."""
        return digest(parameters.as_dict(), self.required_digests)

    @property
    def required_digests(self) -> dict[str, str]:
        """Digests of the tasks that it requires, by family."""
        return {task.family: task.digest(task.values()) for task in self.upstream}

    def variant(self, name: str, /, *, releases: Sequence[str] = (), **values: object) -> "Task":
        """Make the same task with other parameters, as an asset of its own: ``<task>_<name>``.

        Parameters
        ----------
        name
            Text to put after the task's name.
        releases
            Releases that a run of it takes by default; those of this task if empty.
        values
            Parameters that differ from those of this task.

        Raises
        ------
        ParameterError
            If there is no parameter of a name, or a value is not valid.
        UnknownReleaseError, UnknownProductError
            If there is no such release, or it does not have the product.
        """
        for item in releases:
            self.domain.product.template(item)
        return replace(
            self,
            name=f"{self.name}_{name}",
            family=self.family,
            defaults={**self.defaults, **values},
            releases=tuple(dict.fromkeys(releases)) or self.releases,
        )

    def with_parameters(self, **values: Any) -> "Task":
        """Make the variant with these parameters, named after them, for use as a requirement."""
        if self.values(values) == self.values():
            return self
        text = "_".join(f"{key}_{value}" for key, value in values.items())
        name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
        return self.variant(name if len(name) <= 40 else digest(self.values(values).as_dict())[:8], **values)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the task by its module and name if a module has it, so that workers import it; else by value."""
        for name, value in vars(sys.modules.get(self.module, self)).items() if self.module != "__main__" else ():
            for i, item in enumerate(value.chain if isinstance(value, Task) else ()):
                same = item.family == self.family and item.function is self.function
                same = same and item.requires == self.requires and item.common == self.common
                same = same and item.setup is self.setup
                if same and item.version == self.version:
                    place = (self.module, name, i, self.version)
                    return _imported, (place, self.name, dict(self.defaults), self.releases)
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _made, (values,)

    def __call__(self, *inputs: Any, data_ids: Sequence[PartitionID] = (), **values: object) -> Any:
        """Run the task on inputs in memory, without Dagster, files or configuration.

        Parameters
        ----------
        inputs
            A `SpectrumBatch` for each requirement, a mapping of columns if a task makes columns, or a file in the form
            in which the function takes it; and what the setup returns, if the task has one.
        data_ids
            Data ID of each spectrum, if the function takes them.
        values
            Parameters other than the defaults.

        Returns
        -------
        dict or SpectrumBatch
            Columns with one value for each spectrum, or a batch of spectra, checked as in a run.

        Raises
        ------
        ParameterError
            If a parameter is not valid.
        TaskError
            If the function fails, or does not return what the task promises.
        """
        columns, spectra = call_task(self, inputs, self.values(values), data_ids)
        return columns if spectra is None else spectra


def _imported(place: tuple[str, str, int, str], name: str, defaults: dict[str, Any], releases: tuple[str, ...]) -> Task:
    module, attribute, number, version = place
    found: Task = getattr(importlib.import_module(module), attribute).chain[number]
    if found.version != version:
        raise ConfigurationError(
            f"a worker has {name} at code version {found.version}, and the run at {version}",
            path=sys.modules[module].__file__,
            hint="start the workers again: what they have imported stays as it was",
        )
    return found if found.name == name else replace(found, name=name, defaults=defaults, releases=releases)


def _made(values: dict[str, Any]) -> Task:
    return Task(**values)


def all_tasks(tasks: Sequence[Task]) -> dict[str, Task]:
    """Return these tasks and all that they require, by name; required tasks come first.

    Raises
    ------
    ValueError
        If two different tasks have the same name.
    """
    found: dict[str, Task] = {}
    for task in tasks:
        for item in task.chain:
            known = found.setdefault(item.name, item)
            same = known.family == item.family and known.function is item.function and known.defaults == item.defaults
            if not same or known.releases != item.releases:
                raise ValueError(f"there are two tasks named {item.name}, in {known.module} and {item.module}")
    return found
