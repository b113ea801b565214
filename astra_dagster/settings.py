"""Where things are: the few settings of the package, from environment variables; and the one optional file.

``SAS_BASE_DIR``
    Top of the SAS mirror, the folder that holds ``dr17``, ``sdsswork``, ...
``ASTRA_OUTPUTS``
    Folder of the outputs; by default ``astra-outputs`` beside ``DAGSTER_HOME``.
``ASTRA_SAS_URL``
    Address to download from in place of the Science Archive Server's own, down to the folder that holds ``dr17``,
    ``sdsswork``, ...: that of a mirror.
``ASTRA_CONFIG``
    Configuration file (TOML); by default ``astra.toml`` in ``DAGSTER_HOME``, if it exists. What it may hold is in
    `astra_dagster.configuration`.
``TREE_DIR``
    Folder of an SDSS tree product with path templates; by default those of the installed package sdss-tree.
``ASTRA_POSTGRES_URL``
    Database of Dagster's records, where ``dagster.yaml`` says so.

Nothing is created here, and nothing is read at import.
"""

import functools
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import urlsplit

from astra_dagster.configuration import Configuration, Watch, read, read_watch
from astra_dagster.errors import ConfigurationError
from astra_dagster.files import read_text
from astra_dagster.presence import is_folder, status_of

DEFAULTS = Configuration()
"""What holds without a configuration file."""


def sas_base_dir() -> Path:
    """Top folder of the SAS mirror.

    Raises
    ------
    ConfigurationError
        If ``SAS_BASE_DIR`` is not set, or is not a folder.
    UnreachableError
        If nobody can tell.
    """
    value = os.environ.get("SAS_BASE_DIR", "").strip()
    if not value:
        raise ConfigurationError(
            "SAS_BASE_DIR is not set",
            hint="set it to the top folder of your SAS mirror, the one that holds dr17, sdsswork, ...",
        )
    root = _expanded("SAS_BASE_DIR", value)
    if not is_folder(root):
        raise ConfigurationError(
            "SAS_BASE_DIR is not a folder", path=root, hint="set it to the top folder of your SAS mirror"
        )
    return root.resolve()


def sas_url() -> str | None:
    """Address of the mirror to download from, without a slash at its end; None for the Science Archive Server.

    Raises
    ------
    ConfigurationError
        If ``ASTRA_SAS_URL`` is no such address. The message does not repeat it: it may hold a password.
    """
    value = os.environ.get("ASTRA_SAS_URL", "").strip().rstrip("/")
    if not value:
        return None
    try:
        parts = urlsplit(value)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right or parts.query or parts.fragment or not value.isprintable() or " " in value:
        raise ConfigurationError(
            "ASTRA_SAS_URL is not the address of a folder", hint="https://data.mirror.sdss.org/sas is one, for example"
        )
    if "@" in parts.netloc:
        raise ConfigurationError("ASTRA_SAS_URL holds a login", hint="put that into ~/.netrc")
    return value


def tree_dir() -> Path | None:
    """Folder of an SDSS tree product, whose path templates are used; None for those of the installed package.

    Raises
    ------
    ConfigurationError
        If ``TREE_DIR`` is not such a folder.
    """
    value = os.environ.get("TREE_DIR", "").strip()
    if not value:
        return None
    folder = _expanded("TREE_DIR", value)
    if not is_folder(folder / "data"):
        raise ConfigurationError(
            "TREE_DIR is not the folder of an SDSS tree, as it has no folder data",
            path=folder,
            hint="unset it to use the installed package sdss-tree",
        )
    return folder


def dagster_home() -> Path:
    """Folder where Dagster keeps its records.

    Raises
    ------
    ConfigurationError
        If ``DAGSTER_HOME`` is not set, or is not an absolute path.
    """
    value = os.environ.get("DAGSTER_HOME", "").strip()
    if not value:
        raise ConfigurationError(
            "DAGSTER_HOME is not set",
            hint="set it to a folder where Dagster may keep its records, for example $HOME/.dagster",
        )
    home = _expanded("DAGSTER_HOME", value)
    if not home.is_absolute():
        raise ConfigurationError("DAGSTER_HOME is not an absolute path", path=value, hint="give it in full")
    return home


def outputs_dir() -> Path:
    """Folder of the outputs; it need not exist yet.

    Raises
    ------
    ConfigurationError
        If neither ``ASTRA_OUTPUTS`` nor ``DAGSTER_HOME`` is set.
    """
    value = os.environ.get("ASTRA_OUTPUTS", "").strip()
    if value:
        return _expanded("ASTRA_OUTPUTS", value).absolute()
    if not os.environ.get("DAGSTER_HOME", "").strip():
        raise ConfigurationError(
            "neither ASTRA_OUTPUTS nor DAGSTER_HOME is set",
            hint="set ASTRA_OUTPUTS to the folder where the outputs should go",
        )
    return dagster_home().parent / "astra-outputs"


def check_outputs_dir() -> Path:
    """Folder of the outputs, after a look whether it can be made and written to.

    Raises
    ------
    ConfigurationError
        If it cannot, or is not set.
    UnreachableError
        If nobody can tell.
    """
    folder = outputs_dir()
    there = next(parent for parent in (folder, *folder.parents) if status_of(parent) is not None)
    if not is_folder(there) or not os.access(there, os.W_OK | os.X_OK):
        raise ConfigurationError(
            "the outputs cannot be written", path=folder, hint="set ASTRA_OUTPUTS to a folder that you can write to"
        )
    return folder


def check_readable(path: Path) -> None:
    """Check that a launch may have a run read a file: below SAS_BASE_DIR, or a folder that the configuration names.

    Whoever may launch runs would otherwise see what messages tell of any file of the service's user.

    Raises
    ------
    ConfigurationError
        If it may not. Whether there is such a file is not told.
    """
    folders = [sas_base_dir(), *readable_folders()]
    if not any(path.expanduser().resolve().is_relative_to(folder) for folder in folders):
        raise ConfigurationError(
            "a launch may only read files below SAS_BASE_DIR, and the folders of `readable` in the configuration file",
            path=path,
            hint="put it there, or use the command line",
        )


def readable_folders() -> list[Path]:
    """Return the folders besides SAS_BASE_DIR from which the configuration allows reading, with links followed.

    Raises
    ------
    ConfigurationError
        If one of them is not an absolute path, or the configuration is not valid.
    """
    folders = [_expanded("readable", folder) for folder in config().readable]
    for folder in folders:
        if not folder.is_absolute():
            raise config_error(f"readable: {folder} is not an absolute path", hint="give it in full")
    return [folder.resolve() for folder in folders]


def config_path() -> Path | None:
    """The configuration file, None if there is none.

    Raises
    ------
    ConfigurationError
        If ``ASTRA_CONFIG`` names none, or there is one that cannot be read.
    """
    named = os.environ.get("ASTRA_CONFIG", "").strip()
    home = os.environ.get("DAGSTER_HOME", "").strip()
    if not named and not home:
        return None
    path = _config_path(named, home, os.environ.get("HOME", ""))
    if os.access(path, os.R_OK) and os.path.isfile(path):  # noqa: PTH113 (asked for each partition key)
        return path
    if named:
        raise ConfigurationError("ASTRA_CONFIG names no readable file", path=path)
    if status_of(path) is not None:
        raise ConfigurationError("the configuration cannot be read", path=path, hint="it must be a file of yours")
    return None


@functools.lru_cache(maxsize=8)
def _config_path(named: str, home: str, _user: str) -> Path:
    if named:
        return _expanded("ASTRA_CONFIG", named).absolute()
    return _expanded("DAGSTER_HOME", home) / "astra.toml"


def _expanded(name: str, value: str) -> Path:
    """Path of a setting, with ``~`` as the home folder."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"{name} is in the home folder of nobody here", path=value) from error


_HELD: ContextVar[Configuration | None] = ContextVar("_HELD", default=None)


@contextmanager
def held_config() -> Iterator[None]:
    """Look at the configuration file once in this context, and not for each of very many partition keys."""
    token = _HELD.set(config())
    try:
        yield
    finally:
        _HELD.reset(token)


def config() -> Configuration:
    """What the configuration file says; all defaults if there is none.

    Raises
    ------
    ConfigurationError
        If ``ASTRA_CONFIG`` names no file, or the file is not valid TOML, or holds what nobody knows.
    """
    if held := _HELD.get():
        return held
    path = config_path()
    return DEFAULTS if path is None else _parsed(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _parsed(path: Path, _mtime_ns: int) -> Configuration:
    try:
        document = tomllib.loads(read_text(path))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration cannot be read: {error}", path=path) from error
    return read(path, document)


def watch(name: str, *keys: str) -> Watch:
    """What the table ``[watch.NAME]`` says; only these keys of it, if any are named.

    Raises
    ------
    ConfigurationError
        If one of them is unknown, or has a wrong value.
    """
    table = config().watch[name]
    path = config_path()
    chosen = {key: value for key, value in table.items() if key in keys or not keys}
    return Watch() if path is None else read_watch(path, name, chosen)


def config_error(message: str, *, path: str | Path | None = None, hint: str | None = None) -> ConfigurationError:
    """Error about what the configuration file says.

    Parameters
    ----------
    message
        What is wrong, after the table or the key.
    path
        Another file that is to blame.
    hint
        What to do next.
    """
    place = config_path()
    return ConfigurationError(message if place is None else f"{place}: {message}", path=path or place, hint=hint)
