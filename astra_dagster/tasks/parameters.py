"""Parameters of a task: typed, checked, and part of the identity of its results."""

import dataclasses
import hashlib
import inspect
import json
import math
import types
import typing
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Self, dataclass_transform

from astra_dagster.errors import AstraError, ParameterError, describe_user_error, nearest

Scalar = bool | int | float | str | None


def parameter(
    default: object,
    *,
    description: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    significant: bool = True,
    omit_default: bool = False,
) -> Any:
    """Declare a parameter with more than its default.

    Parameters
    ----------
    default
        The default.
    description
        Meaning of the parameter, for the web UI.
    minimum, maximum
        Inclusive bounds of a number.
    significant
        Whether results depend on it. If not, as for a chunk size, it is no part of the digest.
    omit_default
        Whether the digest is without it where it has its default: for a parameter that was added later, with a default
        that does what was done before, so that earlier results stay complete. Such a default must never change.
    """
    about = {
        "description": description,
        "significant": significant,
        "minimum": minimum,
        "maximum": maximum,
        "omit_default": omit_default,
    }
    return dataclasses.field(default=default, metadata=about)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(parameter,))
class Parameters:
    """Base class of a task's parameters: subclass it with annotated defaults, as in a dataclass.

    Fields may be bool, int, float, str, one of these or None, or a tuple of them. Every value is checked; an
    int given for a float becomes a float, so that 2 and 2.0 are the same parameter.

    Raises
    ------
    ParameterError
        If a value has the wrong type, is NaN or infinite, or out of bounds.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        annotated = inspect.get_annotations(cls)
        for name, value in vars(cls).items():
            if name in annotated and isinstance(value, (list, set, dict)):
                raise TypeError(f"the default of {cls.__name__}.{name} can be changed by anyone; use a tuple")
            if not name.startswith("_") and isinstance(value, (bool, int, float, str, tuple)) and name not in annotated:
                raise TypeError(
                    f"{cls.__name__}.{name} is no parameter without a type: write {name}: float = {value!r}"
                )
        dataclasses.dataclass(frozen=True, kw_only=True)(cls)

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in _fields(self):
            value = _checked(field.name, getattr(self, field.name), hints[field.name])
            lowest, highest = (field.metadata.get(name) for name in ("minimum", "maximum"))
            below = lowest is not None and value is not None and value < lowest
            if below or (highest is not None and value is not None and value > highest):
                raise ParameterError(f"{field.name} cannot be {value!r}", hint=f"it must be {_bounds(field)}")
            object.__setattr__(self, field.name, value)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Make parameters with these values, and the defaults for all others.

        Raises
        ------
        ParameterError
            If there is no parameter of a name, or a value is not valid.
        """
        names = [field.name for field in _fields(cls)]
        for name in values:
            if name not in names:
                hint = nearest(name, names) if names else "this task has no parameters"
                raise ParameterError(f"no parameter {name!r}", hint=hint)
        try:
            return cls(**values)
        except AstraError:
            raise
        except Exception as error:  # the class is a user's, and may check values in its own way
            told = describe_user_error(error, cls.__module__)
            raise ParameterError(told.removeprefix("ValueError: ")) from error

    def as_dict(self, *, all: bool = False) -> dict[str, Any]:
        """Return the values in the digest by name, as JSON would hold them; with `all` also the others."""
        return {
            field.name: _listed(getattr(self, field.name)) for field in _fields(self) if all or self._is_identity(field)
        }

    def _is_identity(self, field: dataclasses.Field[Any]) -> bool:
        omitted = field.metadata.get("omit_default", False) and getattr(self, field.name) == field.default
        return bool(field.metadata.get("significant", True)) and not omitted


class NoParameters(Parameters):
    """Parameters of a task that has none."""


def number_families(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return digests by family; where a family has several, the second is that of ``family#2``, and so on."""
    found: dict[str, str] = {}
    count: Counter[str] = Counter()
    for family, one in dict.fromkeys(pairs):
        count[family] += 1
        found[family if count[family] == 1 else f"{family}#{count[family]}"] = one
    return found


def digest(values: Mapping[str, Any], required: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the parameters digest: twelve hexadecimal digits of the SHA-256 hash of the values as canonical JSON.

    Canonical JSON is ASCII with sorted keys and no blanks.

    Parameters
    ----------
    required
        Digests of the required tasks, by family.
    """
    identity = {**values, **({"requires": dict(required)} if required else {})}
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def descriptions(kind: type[Parameters]) -> dict[str, str]:
    """Return the description of each parameter, from `parameter` or else from the docstring's section Attributes."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        lines = (base.__doc__ or "").partition("Attributes\n")[2].splitlines()[1:]
        name = None
        for line in lines:
            if line.strip() and not line.startswith("        "):
                name = line.strip().partition(":")[0].strip()
            elif name and line.strip():
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
    given = {field.name: str(field.metadata.get("description", "")) for field in _fields(kind)}
    return {name: text or found.get(name, "") for name, text in given.items()}


def bounds(kind: type[Parameters]) -> dict[str, str]:
    """Return the bounds of the parameters that have some, in words."""
    return {field.name: text for field in _fields(kind) if (text := _bounds(field))}


def _bounds(field: dataclasses.Field[Any]) -> str:
    limits = (("at least", field.metadata.get("minimum")), ("at most", field.metadata.get("maximum")))
    return " and ".join(f"{words} {limit:g}" for words, limit in limits if limit is not None)


def _fields(kind: type[Parameters] | Parameters) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)  # type: ignore[arg-type]  # every subclass is made a dataclass


def _listed(value: object) -> object:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _checked(name: str, value: object, hint: object) -> object:
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
