"""What the configuration file may say: its keys with their types, and what is said of a key that is wrong.

Here is which keys and tables there are, and what values they take. Whether a name in them is that of a product, a
release or a task is not known here: the module that reads the value says so. Where the file lies is the business of
`astra_dagster.settings`.

The types are plain dataclasses. They are held against a file by pydantic, which is imported when there is one to read.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from astra_dagster.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from pydantic import TypeAdapter

LONGEST = 86_400
"""Seconds for which a file may be made to wait at most."""

NO_OTHERS = {"extra": "forbid"}
"""For pydantic: a key that a table does not have is an error."""

T = TypeVar("T")


def _option(default: object, expected: str) -> Any:
    """A key that may be left out, and what is expected of its value, in words."""
    return field(default=default, metadata={"expected": expected})


@dataclass(frozen=True, kw_only=True)
class Database:
    """The table ``[database]``: where tables go besides (see `astra_dagster.tables.database`)."""

    __pydantic_config__: ClassVar = NO_OTHERS

    url: str = _option("", '"sqlite", or the URL of a database: [database] holds nothing but url')


@dataclass(frozen=True, kw_only=True)
class Watch:
    """A table ``[watch.PRODUCT]``: how a product is watched.

    Attributes
    ----------
    running
        Whether sensor and daily schedule are on, unless they are switched in the web UI.
    releases
        Releases to look at; all if there are none.
    where
        What parts of the keys of the files may be, as in a selection; a run is requested for these alone.
    tasks
        Tasks to run on what comes; if there are none, all whose partitions are the product's files, or groups of them.
    interval
        Seconds from look to look.
    daily
        When everything is gone through, as in a crontab, UTC.
    settle
        Seconds for which a file must not have changed.
    by_content
        Whether versions of files are told by their contents, not by size and date.
    partitions
        How many a run takes at most.
    """

    __pydantic_config__: ClassVar = NO_OTHERS

    running: bool = _option(False, "true or false")
    releases: tuple[str, ...] = _option((), "a list of releases")
    where: Mapping[str, int | str | tuple[int | str, ...]] = field(
        default_factory=dict, metadata={"expected": 'parts of keys: where = {plate = [5226, 5227], mjd = "56000.."}'}
    )
    tasks: tuple[str, ...] = _option((), "a list of tasks")
    interval: int = _option(15, "a whole number of seconds")
    daily: str = _option("0 12 * * *", 'five fields as in a crontab, for example "0 12 * * *"')
    settle: float = _option(10.0, "a number of seconds, a day at most")
    by_content: bool = _option(False, "true or false")
    partitions: int = _option(10_000, "a whole number")

    def __post_init__(self) -> None:
        right = {
            "interval": self.interval >= 1,
            "settle": 0 <= self.settle <= LONGEST,
            "partitions": self.partitions >= 1,
        }
        wrong = [name for name, is_right in right.items() if not is_right]
        if wrong:
            raise ValueError(*wrong)


# It is compared by identity: what was read of a file once is one object, which can be the key of a cache.
@dataclass(frozen=True, kw_only=True, eq=False)
class Configuration:
    """A configuration file.

    Attributes
    ----------
    products
        Products that get a source asset besides the seed products.
    packages, defs
        Packages with tasks of one's own; the folder or package of declared ones.
    workers
        Who computes (see `astra_dagster.execution.workers`).
    clusters
        Addresses of Dask schedulers by name, among which a launch may choose.
    readable
        Folders besides SAS_BASE_DIR from which a launch may have a run read a table.
    fetch
        Whether files that are not on this disk are fetched.
    web_url
        Address of the web UI, to which pages of nights lead.
    releases
        Tables ``[releases.NAME]`` (see `astra_dagster.datamodel.releases`).
    database
        The table ``[database]``.
    watch
        Tables ``[watch.PRODUCT]`` as they stand there: each is read by itself, for one that is wrong to leave the rest
        alone.
    """

    __pydantic_config__: ClassVar = NO_OTHERS

    products: tuple[str, ...] = _option((), 'a list of names, for example products = ["mwmStar"]')
    packages: tuple[str, ...] = _option((), 'a list of names, for example packages = ["my_tasks"]')
    defs: str | None = _option(None, 'the name of a package or folder, for example defs = "defs"')
    workers: str = _option("processes", 'text, for example workers = "processes:4"')
    fetch: bool = _option(False, "true or false")
    web_url: str = _option("http://localhost:3000", 'the address of the web UI, for example "http://localhost:3000"')
    clusters: Mapping[str, str] = field(
        default_factory=dict, metadata={"expected": '[clusters] with addresses by name: main = "dask:tcp://host:8786"'}
    )
    readable: tuple[str, ...] = _option((), 'a list of folders, for example readable = ["/data/catalogues"]')
    releases: Mapping[str, Mapping[str, str | int | float]] = field(
        default_factory=dict,
        metadata={"expected": '[releases.NAME] with tree = "DR17" and versions: apred = "r13"'},
    )
    database: Database = field(
        default=Database(), metadata={"expected": "the table [database], which holds nothing but url"}
    )
    watch: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict, metadata={"expected": "one a product: [watch.ap_visit]"}
    )


def read(path: Path, document: Mapping[str, Any]) -> Configuration:
    """What the file at this path says, from its contents.

    Raises
    ------
    ConfigurationError
        If it has an unknown key or table, or one with a wrong value; all of them are told.
    """
    return _checked(Configuration, document, path, ())


def read_watch(path: Path, name: str, table: Mapping[str, Any]) -> Watch:
    """What the table of one watched product says.

    Raises
    ------
    ConfigurationError
        As `read`.
    """
    return _checked(Watch, table, path, ("watch", name))


@functools.cache
def _adapter(model: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter

    return TypeAdapter[Any](model)


def _checked(model: Callable[..., T], table: Mapping[str, Any], path: Path, above: tuple[str, ...]) -> T:
    """A table of the file as this type; `above` are the names that lead to it."""
    from pydantic import ValidationError

    try:
        # As JSON, which has lists and tables as TOML has; pydantic is strict with its types. A date is text there.
        found: T = _adapter(model).validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        mistakes = dict(
            _mistake(model, table, keys, above, one["type"])
            for one in error.errors(include_url=False)
            for keys in _places(table, one)
        )
    else:
        return found
    if len(mistakes) == 1:
        ((message, hint),) = mistakes.items()
        raise ConfigurationError(f"{path}: {message}", path=path, hint=hint)
    raise ConfigurationError(f"{path}: " + "; ".join(f"{what} ({hint})" for what, hint in mistakes.items()), path=path)


def _places(table: Mapping[str, Any], error: Any) -> Iterator[tuple[str | int, ...]]:
    """The keys that lead to what is wrong; pydantic names the type besides that it has tried, of several."""
    found: list[str | int] = []
    value: Any = table
    for key in error["loc"]:
        if (isinstance(value, Mapping) and key in value) or isinstance(value, list):
            found, value = [*found, key], value[key]
    if error["type"] == "value_error":  # of `Watch`
        yield from ((*found, name) for name in error["ctx"]["error"].args)
    else:
        yield tuple(found)


def _mistake(
    model: Any, table: Mapping[str, Any], keys: tuple[str | int, ...], above: tuple[str, ...], kind: str
) -> tuple[str, str]:
    """What is wrong with the value that these keys lead to, and what to do about it."""
    value: Any = table
    for key in keys:
        value = value[key]
    *within, name = [key for key in keys if isinstance(key, str)]
    if within and isinstance(getattr(model, within[0], None), Database):
        model = Database
    place = ".".join([*above, *within])
    where, full = (f"[{place}]: ", f"{place}.{name}") if place else ("", name)
    known = {item.name: item.metadata["expected"] for item in fields(model)}
    if kind == "unexpected_keyword_argument":
        what = f"no table [{full}]" if isinstance(value, Mapping) else f"{where}no option {name!r}"
        hint = nearest(name, known)
        holds = f"{' ' if hint.endswith('?') else '; '}[{place}] holds nothing but {', '.join(known)}"
        return what, hint + holds if place else hint
    if kind in ("dict_type", "dataclass_type"):
        if within:
            return f"{full} must be a table", f"begin it with [{full}]"
        many = kind == "dict_type" and not above
        return f"{full} must be {'made of tables' if many else 'a table'}", f"expected {known[name]}"
    expected = f"expected {known.get(name) or known[str(keys[0])]}"
    if isinstance(value, (Mapping, list)):  # which may hold a password
        return f"{where}{name} cannot be a {'table' if isinstance(value, Mapping) else 'list'}", expected
    return f"{where}{name} cannot {'hold' if isinstance(keys[-1], int) else 'be'} {value!r}", expected
