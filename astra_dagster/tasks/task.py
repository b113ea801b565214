"""The task: parameters, requirements, a function and an output. Knows nothing of Dagster."""

import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from astra_dagster.datamodel.products import Product
from astra_dagster.errors import ConfigurationError
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.tasks.calling import call_task, one_by_one
from astra_dagster.tasks.columns import Column
from astra_dagster.tasks.parameters import NoParameters, Parameters, descriptions, digest
from astra_dagster.tasks.requirements import Group, Many

RESERVED = frozenset(["also", "fetch", "overwrite", "releases", "where"])
"""Names that no parameter may have: a run takes them besides the parameters."""
Domain = Product | Group
"""What the partitions of a task are: the files of a product, or groups of them."""


@dataclass(frozen=True, eq=False)
class Task:
    """An analysis, partition by partition. Make one with `spectrum_task`.

    Attributes
    ----------
    name
        Name of its asset: ``ap_visit_snr``.
    requires
        Products, tasks, or many partitions of one; the function gets what each holds, in this order.
    parameters
        Class of its parameters.
    version
        Code version; change it when the same input and parameters give other results.
    function
        From inputs and parameters to columns of n values each, or to a batch of n spectra, whose metadata then hold
        the columns.
    columns
        What is known of the columns that the function returns, all of them or none at all.
    output
        "json" for columns alone, "fits" for spectra.
    wavelength
        Whether the function looks at wavelengths; reading goes faster without.
    description
        What the task does, for people.
    family
        Name of the task that this is a variant of, its own if it is none: variants share outputs, for what differs
        is in the digest.
    defaults
        Values of a variant's parameters that are not those of the class.
    module
        Name of the module that defines it.
    releases
        Those that a run takes if it is not told which; all if empty.
    """

    name: str
    requires: tuple[Any, ...]
    parameters: type[Parameters]
    version: str
    function: Callable[..., Any]
    columns: Mapping[str, Column] = field(default_factory=dict)
    output: Literal["json", "fits"] = "json"
    wavelength: bool = True
    description: str = ""
    family: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""
    releases: tuple[str, ...] = ()

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
        domains = {_domain(requirement) for requirement in self.requires}
        if len(domains) != 1:
            found = ", ".join(sorted(str(getattr(domain, "name", domain)) for domain in domains)) or "nothing"
            raise ValueError(f"{self.name} requires {found}: what it requires must have the same partitions")
        if not self.family:
            object.__setattr__(self, "family", self.name)
        self.values()

    @property
    def domain(self) -> Domain:
        """What its partitions are."""
        return _domain(self.requires[0])

    @property
    def upstream(self) -> tuple["Task", ...]:
        """Tasks among what it requires."""
        found = (r.of if isinstance(r, Many) else r for r in self.requires)
        return tuple(item for item in found if isinstance(item, Task))

    @cached_property
    def chain(self) -> tuple["Task", ...]:
        """All tasks that must be done for it, in order, itself the last."""
        found: dict[str, Task] = {}
        for task in self.upstream:
            found.update((item.name, item) for item in task.chain)
        return (*found.values(), self)

    def values(self, given: Mapping[str, Any] | None = None) -> Parameters:
        """Parameters with these values, and its own defaults for the others.

        Raises
        ------
        ParameterError
            If there is no parameter of a name, or a value does not fit.
        """
        return self.parameters.from_mapping({**self.defaults, **(given or {})})

    def digest(self, parameters: Parameters) -> str:
        """Identity of what it makes with these parameters: their digest, and that of the tasks that it requires."""
        required = self.required_digests
        return digest({**parameters.as_dict(), **({"requires": required} if required else {})})

    @property
    def required_digests(self) -> dict[str, str]:
        """Identity of what each task makes that it requires, by family."""
        return {task.family: task.digest(task.values()) for task in self.upstream}

    def variant(self, name: str, /, *, releases: Sequence[str] = (), **values: Any) -> "Task":
        """The same task with other parameters, as an asset of its own: ``<task>_<name>``.

        Parameters
        ----------
        name
            What to put after the task's name.
        releases
            Releases that a run of it takes if it is not told which; those of this task if empty.
        values
            Parameters that are others than those of this task.

        Raises
        ------
        ParameterError
            If there is no parameter of a name, or a value does not fit.
        UnknownReleaseError, UnknownProductError
            If there is no such release, or it does not have the product.
        """
        product = self.domain.product if isinstance(self.domain, Group) else self.domain
        for item in releases:
            product.template(item)
        return replace(
            self,
            name=f"{self.name}_{name}",
            family=self.family,
            defaults={**self.defaults, **values},
            releases=tuple(dict.fromkeys(releases)) or self.releases,
        )

    def with_parameters(self, **values: Any) -> "Task":
        """The variant with these parameters, named after them, for use as a requirement."""
        if self.values(values) == self.values():
            return self
        text = "_".join(f"{key}_{value}" for key, value in values.items())
        name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
        return self.variant(name if len(name) <= 40 else self.values(values).digest[:8], **values)

    def __reduce__(self) -> tuple[Any, ...]:
        """For other processes: by its name where a module has it, so that they import that module; else by value."""
        for name, value in vars(sys.modules.get(self.module, self)).items() if self.module != "__main__" else ():
            for i, item in enumerate(value.chain if isinstance(value, Task) else ()):
                same = item.function is self.function and item.requires is self.requires
                if same and item.version == self.version:
                    place = (self.module, name, i, self.version)
                    return _imported, (place, self.name, dict(self.defaults), self.releases)
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return _made, (values,)

    def __call__(self, *inputs: Any, **values: Any) -> Any:
        """What the task makes of inputs in memory: no Dagster, no files, no configuration.

        Parameters
        ----------
        inputs
            For each requirement a `SpectrumBatch`, or a mapping of columns for a task that makes columns.
        values
            Parameters other than the defaults.

        Returns
        -------
        dict or SpectrumBatch
            Columns of one value a spectrum, or a batch of spectra, checked as in a run.

        Raises
        ------
        ParameterError
            If a parameter does not fit.
        TaskError
            If the function fails, or returns what the task does not promise.
        """
        columns, spectra = call_task(self, inputs, self.values(values))
        return columns if spectra is None else spectra


def spectrum_task(
    requires: Any,
    *,
    version: str,
    parameters: type[Parameters] = NoParameters,
    columns: Mapping[str, Column | str] | None = None,
    output: Literal["json", "fits"] | None = None,
    name: str | None = None,
    each: bool = False,
    wavelength: bool = True,
    stages: int = 1,
) -> Callable[[Callable[..., Any]], Task]:
    """Make a task of a function; use as a decorator.

    The function gets what it requires and its parameters, ``f(spectra, parameters)``, and returns a mapping from
    column names to n values each, one a spectrum: numbers, texts, short rows of numbers, or quantities with a unit. A
    function that returns a `SpectrumBatch` makes FITS files; it says so by its return annotation, or by `output`.

    Parameters
    ----------
    requires
        A product, a task, many partitions of one (`grouped`, `matching`), or a tuple of these with the same
        partitions.
    version
        Code version; change it when the same input and parameters give other results.
    parameters
        Class of its parameters.
    columns
        Descriptions, or `Column` with unit and bounds; where given, the function must return just these.
    output
        "fits" for spectra, "json" for columns alone; by default what the return annotation says, else "json".
    name
        By default that of the function.
    each
        Whether the function takes one spectrum at a time; it then returns one value a column.
    wavelength
        Whether the function looks at wavelengths; reading goes faster without.
    stages
        Of a task that refines its own result: stage k gets what stage k - 1 made as an argument before the
        parameters, the first gets None. Stages before the last are assets named ``<task>_stage1``, ...

    Returns
    -------
    Callable
        From the function to its `Task`.
    """
    required = tuple(requires) if isinstance(requires, (tuple, list)) else (requires,)

    def decorate(function: Callable[..., Any]) -> Task:
        made: Task | None = None
        own = name or function.__name__
        kind = output or ("fits" if _returns_spectra(function) else "json")
        for stage in range(1, stages + 1):
            body = one_by_one(function) if each else function
            if stages > 1 and made is None:
                body = _first_stage(body, len(required))
            made = Task(
                name=own if stage == stages else f"{own}_stage{stage}",
                requires=required if made is None else (*required, made),
                parameters=parameters,
                version=version,
                function=body,
                columns={n: c if isinstance(c, Column) else Column(c) for n, c in (columns or {}).items()},
                output=kind,
                wavelength=wavelength,
                description=inspect.getdoc(function) or "",
                module=function.__module__,
            )
        assert made is not None  # noqa: S101 (there is at least one stage)
        return made

    if stages < 1:
        raise ValueError("a task has at least one stage")
    return decorate


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


def _first_stage(function: Callable[..., Any], inputs: int) -> Callable[..., Any]:
    def first(*arguments: Any) -> Any:
        return function(*arguments[:inputs], None, *arguments[inputs:])

    return first


def _returns_spectra(function: Callable[..., Any]) -> bool:
    try:
        return typing.get_type_hints(function).get("return") is SpectrumBatch
    except (NameError, TypeError):
        return False


def _domain(requirement: Any) -> Domain:
    if isinstance(requirement, Task):
        return requirement.domain
    if isinstance(requirement, Many):
        return requirement.domain
    if isinstance(requirement, Product):
        return requirement
    raise ValueError(f"a task requires products and tasks, not {requirement!r}")


def all_tasks(tasks: Sequence[Task]) -> dict[str, Task]:
    """These tasks and all that they require, by name, what is required first.

    Raises
    ------
    ValueError
        If two different tasks have one name.
    """
    found: dict[str, Task] = {}
    for task in tasks:
        for item in task.chain:
            known = found.setdefault(item.name, item)
            same = known.family == item.family and known.function is item.function and known.defaults == item.defaults
            if not same or known.releases != item.releases:
                raise ValueError(f"there are two tasks named {item.name}")
    return found
