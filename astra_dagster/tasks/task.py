"""The task: parameters, requirements, a function and an output, without Dagster."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, Literal, get_args

from astra_dagster.at_hand import AtHand
from astra_dagster.datamodel.products import Product
from astra_dagster.errors import DeclarationError, ParameterError, nearest
from astra_dagster.resources import NONE, Resources
from astra_dagster.tasks.calling import call_task
from astra_dagster.tasks.columns import MEMBERSHIP, Column
from astra_dagster.tasks.groups import Domain, PartitionID
from astra_dagster.tasks.importing import find_place, import_task
from astra_dagster.tasks.inputs.common_files import CommonFile
from astra_dagster.tasks.inputs.requirement import Requirement, join_domains
from astra_dagster.tasks.parameters import Parameters, descriptions, digest, number_families

RESERVED = frozenset(["also", "also_set", "data_ids", "fetch", "keys", "overwrite", "releases", "verify", "where"])
"""Names that no parameter may have, because a run or a function takes them beside the parameters."""
Output = Literal["json", "fits"]
Remake = Callable[["Task", Mapping[str, Any]], "Task"]
"""Function from a task and values to the task that has these."""


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
class Task(AtHand):
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
    options
        Names of the parameters with which the files are read, as options of their readers.
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
    resources
        What a worker needs for it.
    """

    name: str
    requires: tuple[Requirement, ...]
    parameters: type[Parameters]
    version: str
    function: Callable[..., Any]
    columns: Mapping[str, Column] = field(default_factory=dict)
    output: Output = "json"
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
    options: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = NONE

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,99}", self.name):
            raise ValueError(f"the name of a task must be lower-case letters, digits and _, not {self.name!r}")
        if not isinstance(self.version, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", self.version):
            raise ValueError(f"version of {self.name} must be letters, digits, _ or -, not {self.version!r}")
        if taken := RESERVED & set(descriptions(self.parameters)):
            raise ValueError(
                f"{self.name} cannot have a parameter {', '.join(sorted(taken))}: runs have one themselves"
            )
        if self.output not in (known := get_args(Output)):
            raise DeclarationError(f"{self.name} cannot have the output {self.output!r}; expected {' or '.join(known)}")
        shared = tuple(self._share(requirement_of(item)) for item in self.requires)
        object.__setattr__(self, "requires", join_domains(shared))
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
        all_tasks(self.upstream)

    def _share(self, item: Requirement) -> Requirement:
        """Return a requirement whose task has the values that it shares, as a variant if its own defaults differ."""
        if item.task is None or item.shared == ():
            return item
        mine, theirs = (task.values().as_dict(all=True) for task in (self, item.task))
        if item.shared is None:
            item = replace(item, shared=tuple(name for name in theirs if name in mine) or tuple(theirs))
        for name in item.shared or ():
            if name not in mine:
                message = f"{self.name} has no parameter {name} to share with {item.asset_name}"
                raise DeclarationError(message, hint=nearest(name, mine))
        return self._hand_on(item, self.values(), {}, Task.with_parameters)

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

    def belonging(self, product: Product) -> Domain | None:
        """Return the domain whose `key_of` leads from files of a product to partitions; None if these are of others."""
        groups = (item.group for item in self.requires if item.group is not None)
        return next((domain for domain in (self.domain, *groups) if domain.product == product), None)

    @property
    def upstream(self) -> tuple["Task", ...]:
        """Tasks that it requires directly."""
        return tuple(item.task for item in self.requires if item.task is not None)

    @property
    def result_columns(self) -> Mapping[str, Column]:
        """Columns that the function promises, and those that are added to every result."""
        many = any(not item.one_to_one for item in self.requires)
        return {**self.columns, **{n: c for n, c in MEMBERSHIP.items() if many and n not in self.columns}}

    @property
    def promised(self) -> tuple[str, ...]:
        """Names of all columns of a result, those of the function first; none if the function promises none."""
        return tuple(self.result_columns) if self.columns else ()

    @cached_property
    def chain(self) -> tuple["Task", ...]:
        """All tasks that must run for it, in order; itself the last."""
        return (*all_tasks(self.upstream).values(), self)

    def values(self, given: Mapping[str, Any] | None = None) -> Parameters:
        """Make parameters with these values, and the task's defaults for all others.

        Raises
        ------
        ParameterError
            If there is no parameter of a name, or a value is not valid.
        """
        return self.parameters.from_mapping({**self.defaults, **(given or {})})

    def _named_values(self, given: Mapping[str, Any]) -> Parameters:
        """Do the same as `values`, with errors that name the task."""
        try:
            return self.values(given)
        except ParameterError as error:
            error.message = f"{self.name}: {error.message}"
            raise

    def digest(self, parameters: Parameters) -> str:
        """Return the digest of these parameters and of the tasks that it requires: the identity of its results."""
        return digest(parameters.as_dict(), self.with_values(parameters).required_digests)

    @property
    def required_digests(self) -> dict[str, str]:
        """Digests of the tasks that it requires, by family; see `number_families` for several of one."""
        return number_families((task.family, task.digest(task.values())) for task in self.upstream)

    def sharing(self, *names: str) -> Requirement:
        """Require this task with the values that parameters of these names have in the task that requires it.

        ``requires=ap_star_continuum.sharing("order")`` hands its ``order`` on; no name stands for all that both have.

        Raises
        ------
        ParameterError
            If this task has no parameter of a name.
        """
        known = self.values().as_dict(all=True)
        for name in names:
            if name not in known:
                raise ParameterError(f"{self.name} has no parameter {name!r}", hint=nearest(name, known))
        return replace(requirement_of(self), shared=names or None)

    def setting(self, values: Mapping[str, Any] = MappingProxyType({}), /, **named: object) -> "Task":
        """Return the same task with other parameters, its own and those of the tasks that it requires.

        Parameters
        ----------
        values, named
            Values by name of the parameter: of this task ``order``, of another ``ap_star_continuum.order``.

        Raises
        ------
        ParameterError
            If there is no such task or parameter, a value is not valid, or it is one that another task shares.
        """
        return self._remake({**values, **named}, Task.setting)

    def with_values(self, parameters: Parameters) -> "Task":
        """Return the same task with these parameters; what it requires has those that it shares."""
        return self if parameters == self.values() else self.setting(parameters.as_dict(all=True))

    def _remake(self, given: Mapping[str, Any], remake: Remake) -> "Task":
        """Return this task with other values, and with the required tasks that `remake` makes with theirs."""
        names = {task.name for task in self.chain}
        mine: dict[str, Any] = {}
        for name, value in given.items():
            of, _, short = name.rpartition(".")
            if of and of not in names:
                raise ParameterError(f"{self.name} requires no task {of!r}", hint=nearest(of, names))
            if of in ("", self.name):
                mine[short] = value
            having = [task.name for task in self.chain if short in descriptions(task.parameters)]
            if not of and having and self.name not in having:
                raise ParameterError(f"{self.name} has no parameter {short!r}", hint=f"set {having[-1]}.{short}")
        own = (self._named_values if any("." in name for name in given) else self.values)(mine)
        requires = tuple(self._hand_on(item, own, given, remake) for item in self.requires)
        if own == self.values() and all(new.task is old.task for new, old in zip(requires, self.requires, strict=True)):
            return self
        return replace(self, defaults={**self.defaults, **{n: getattr(own, n) for n in mine}}, requires=requires)

    def _hand_on(self, item: Requirement, own: Parameters, given: Mapping[str, Any], remake: Remake) -> Requirement:
        """Return a requirement with the task that `remake` makes with what is given for it, and what it shares."""
        if item.task is None:
            return item
        names = {task.name for task in item.task.chain}
        handed = {name: value for name, value in given.items() if name.rpartition(".")[0] in names}
        for short in item.shared or ():
            name = f"{item.task.name}.{short}"
            value = item.task._named_values({short: getattr(own, short)})
            if name in handed and item.task._named_values({short: handed[name]}) != value:
                message = f"{item.task.name} has its {short} from {self.name}"
                raise ParameterError(message, hint=f"set {self.name}.{short}")
            if value != item.task.values():
                handed[name] = getattr(own, short)
        return replace(item, task=remake(item.task, handed))

    def variant(self, name: str, /, *, releases: Sequence[str] = (), **values: object) -> "Task":
        """Make the same task with other parameters, as an asset of its own: ``<task>_<name>``.

        Parameters
        ----------
        name
            Text to put after the task's name.
        releases
            Releases that a run of it takes by default; those of this task if empty.
        values
            Parameters that differ from those of this task and of the tasks that it requires, as in `setting`. Of a
            required task with other parameters a variant is required, which is named after them.

        Raises
        ------
        ParameterError
            As `setting` does.
        UnknownReleaseError, UnknownProductError
            If there is no such release, or it does not have the product.
        """
        names = dict.fromkeys(self.domain.product.template(item).release for item in releases)
        made = self._remake(values, Task.with_parameters)
        return replace(made, name=f"{self.name}_{name}", releases=tuple(names) or self.releases)

    def with_parameters(self, values: Mapping[str, Any] = MappingProxyType({}), /, **named: Any) -> "Task":
        """Make the variant with these parameters, named after them, for use as a requirement; see `variant`."""
        given = {name.removeprefix(f"{self.name}."): value for name, value in {**values, **named}.items()}
        made = self._remake(given, Task.with_parameters)
        if made is self:
            return self
        text = "_".join(f"{name}_{value}" for name, value in given.items())
        name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
        if len(name) > 40:
            below = {name: value for name, value in given.items() if "." in name}
            name = digest({**made.values().as_dict(), **below})[:8]
        return replace(made, name=f"{self.name}_{name}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the task by its module and name if a module has it, so that workers import it; else by value."""
        place = find_place(self)
        if place is not None:
            return import_task, (place, self.name, dict(self.defaults), self.releases, self.upstream)
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return partial(Task, **values), ()

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


def all_tasks(tasks: Sequence[Task]) -> dict[str, Task]:
    """Return these tasks and all that they require, by name; required tasks come first.

    Raises
    ------
    ValueError
        If two different tasks, or the partitions of different groupings, have the same name.
    ParameterError
        If a task is required with different parameters: of a partition it has one record.
    """
    found: dict[str, Task] = {}
    domains: dict[str, Domain] = {}
    for task in tasks:
        for item in task.chain:
            if domains.setdefault(item.domain.asset_name, item.domain) != item.domain:
                raise ValueError(f"{item.name} has groups {item.domain.name}, which are other groups elsewhere")
            known = found.setdefault(item.name, item)
            if known is item:
                continue
            one, other = known.values().as_dict(all=True), item.values().as_dict(all=True)
            same = (known.family, known.function, known.releases) == (item.family, item.function, item.releases)
            for name in one if same else ():
                if one[name] != other[name]:
                    raise ParameterError(
                        f"{item.name} is needed with {name}={one[name]} and with {name}={other[name]}",
                        hint=f"set {item.name}.{name} for all, let all share it, or require a variant: with_parameters",
                    )
            if not same or known.required_digests != item.required_digests:
                raise ValueError(f"there are two tasks named {item.name}, in {known.module} and {item.module}")
    return found
