"""The configuration that the launchpad asks for: a task's parameters, which are checked before a run is created."""

import typing
from collections.abc import Mapping
from typing import Any, Self

import dagster as dg
from pydantic import Field, create_model

from astra_dagster import settings
from astra_dagster.errors import AstraError
from astra_dagster.files import checked_by
from astra_dagster.orchestration.causes import WithoutTrace
from astra_dagster.tasks import registry
from astra_dagster.tasks.parameters import bounds, descriptions
from astra_dagster.tasks.task import Task

ALSO_SET = "also_set"
"""Name of the field for parameters of other tasks than the one that is launched."""


class RunConfig(dg.Config):
    """What a run takes besides the task's parameters."""

    overwrite: bool = Field(default=False, description="Compute complete partitions again.")
    fetch: bool = Field(
        default=False,
        description="Fetch files that are not on this disk from the Science Archive Server first; "
        "so does `fetch = true` in the configuration file.",
    )
    verify: bool = Field(
        default=False, description="Read all outputs, and compute those again that differ from their records."
    )

    @property
    def fetching(self) -> bool:
        """Whether to fetch, by this or by the configuration file."""
        return self.fetch or settings.config().fetch


Kind = typing.TypeVar("Kind", bound=dg.Config)


class Launchpad(typing.Generic[Kind]):
    """The configuration of runs of a task.

    Parameters
    ----------
    base
        Type of the configuration besides the task's parameters.
    """

    def __init__(self, task: Task, base: type[Kind]) -> None:
        self.task = task
        hints = typing.get_type_hints(task.parameters)
        meaning = describe_parameters(task)
        fields: dict[str, Any] = {
            name: (_find_config_type(hints[name]), Field(default=default, description=meaning[name] or None))
            for name, default in task.values().as_dict(all=True).items()
        }
        others = [other.name for other in task.chain[:-1]]
        if others or "also" in base.model_fields:
            about = 'Parameters of other tasks of the run, for example {"ap_visit_snr.fudge_factor": 2.0}.'
            listed = f" It requires {', '.join(others)}." if others else ""
            fields[ALSO_SET] = (dict[str, Any], Field(default={}, description=about + listed))
        self.kind, self._fields = _make_kind(base, fields)

    @property
    def schema(self) -> dg.Field:
        """Schema for the ``config_schema`` of an op or asset."""
        return dg.Field(_CheckedFields(self._fields, self.task))

    def read(self, context: dg.OpExecutionContext) -> tuple[Kind, list[Task]]:
        """Return the configuration of a run, and its tasks with their parameters, this one first."""
        values = dict(context.op_config)
        before, after = _set_tasks(self.task, values)
        for line in registry.tell_kept(before, after):
            context.log.warning(line)
        return self.kind(**values), after


_MADE: dict[tuple[type[dg.Config], str], tuple[type[Any], Mapping[str, dg.Field]]] = {}


def _make_kind(base: type[Kind], fields: Mapping[str, Any]) -> tuple[type[Kind], Mapping[str, dg.Field]]:
    """Return a type of configuration with more fields, and all its fields as Dagster has them.

    Tasks with the same parameters share one, as Dagster takes milliseconds for each.
    """
    key = base, repr(fields)
    if key not in _MADE:
        kind = create_model(base.__name__, __base__=base, **fields)
        _MADE[key] = kind, kind.to_fields_dict()
    return _MADE[key]


class _CheckedFields(dg.Shape):
    """Fields of the launchpad that the task itself checks, so that no run is created with values that it refuses."""

    def __new__(cls, fields: Mapping[str, dg.Field], task: Task) -> Self:
        made: Self = super(dg.Shape, cls).__new__(cls)  # not the cached type of another task with the same fields
        made._initialized = False
        return made

    def __init__(self, fields: Mapping[str, dg.Field], task: Task) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            fields, description=f"Parameters of {task.name}."
        )
        self.task = task

    def post_process(self, value: Mapping[str, Any]) -> Mapping[str, Any]:
        """Check values, of which Dagster has checked that they are complete and of the right types."""
        try:
            _set_tasks(self.task, value)
        except AstraError as error:
            raise RefusedConfig(str(error), [], value) from None  # type: ignore[no-untyped-call]
        return value


class RefusedConfig(dg.DagsterInvalidConfigError, WithoutTrace):
    """A configuration with a value that a task refuses, told in words."""


def describe_parameters(task: Task) -> dict[str, str]:
    """Return the meaning of each parameter, with its bounds."""
    limits = bounds(task.parameters)
    return {
        name: f"{text} ({limits[name]})" if name in limits else text
        for name, text in descriptions(task.parameters).items()
    }


def _set_tasks(task: Task, values: Mapping[str, Any]) -> tuple[list[Task], list[Task]]:
    """Return a task and those that run with it, by default and with the values of a launch.

    The values may come from anybody who may launch a run: see `settings.check_readable`.
    """
    before = [task, *(registry.find_task(name) for name in values.get("also", ()) if name != task.name)]
    with checked_by(settings.check_readable):
        default = task.values().as_dict(all=True)
        own = task.values({name: values[name] for name in default if name in values}).as_dict(all=True)
        changed = {f"{task.name}.{name}": value for name, value in own.items() if value != default[name]}
        return before, registry.set_together(before, {**changed, **values.get(ALSO_SET, {})})


def _find_config_type(hint: object) -> object:
    """Return Dagster's type for that of a parameter; if Dagster has none, any value, which the parameter checks."""
    options = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        kinds = {option for option in options if option is not Ellipsis}
        return list[_find_config_type(kinds.pop())] if len(kinds) == 1 else list[Any]  # type: ignore[misc]
    plain = [option for option in options if option is not type(None)]
    return hint if not options or (len(plain) == 1 and not typing.get_args(plain[0])) else Any
