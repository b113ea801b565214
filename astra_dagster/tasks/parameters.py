"""Parameters of a task: typed, checked, and part of the identity of what the task makes."""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Self, dataclass_transform

from astra_dagster.errors import ParameterError, nearest

Scalar = bool | int | float | str | None


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Parameters:
    """Base of a task's parameters: subclass it with annotated defaults, as in a dataclass.

    Fields may be bool, int, float, str, one of these or None, or a tuple of them. Every value is checked; an
    int given for a float becomes a float, so that 2 and 2.0 are the same parameter.

    Raises
    ------
    ParameterError
        If a value has the wrong type, or is NaN or infinite.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = _checked(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Parameters with these values, and the defaults for the others.

        Raises
        ------
        ParameterError
            If there is no parameter of a name, or a value does not fit.
        """
        names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for name in values:
            if name not in names:
                raise ParameterError(f"no parameter {name!r}", hint=nearest(name, names))
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """Values by name, as JSON would hold them."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload]
        return {name: _listed(value) for name, value in values.items()}

    @property
    def digest(self) -> str:
        """Short stable hash of names and values, for paths and records."""
        text = json.dumps(self.as_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _listed(value: Any) -> Any:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _checked(name: str, value: Any, hint: Any) -> Any:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        for option in options:
            if option is not type(None):
                try:
                    return _checked(name, value, option)
                except ParameterError:
                    continue
    elif origin is tuple and isinstance(value, (tuple, list)):
        if len(options) == 2 and options[1] is Ellipsis:
            return tuple(_checked(name, item, options[0]) for item in value)
        if len(options) == len(value):
            return tuple(_checked(name, item, option) for item, option in zip(value, options, strict=True))
    elif hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value) + 0.0  # no negative zero: it would have another digest
    elif hint in (bool, int, str) and type(value) is hint:
        return value
    expected = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise ParameterError(f"{name} cannot be {value!r}", hint=f"expected {expected}, finite")
