"""Dagster's migration scripts, loaded once a process.

Alembic loads the dozens of them anew for every database that is opened or made, and runs have a database each.
"""

from typing import Any

from alembic.config import Config
from alembic.script import ScriptDirectory


def remember() -> None:
    """Have Alembic keep what it has loaded, for as long as the process lives."""
    load = ScriptDirectory.from_config.__func__  # type: ignore[attr-defined]
    known: dict[str, ScriptDirectory] = {}

    def from_config(cls: Any, config: Config) -> ScriptDirectory:
        place = config.get_main_option("script_location") or ""
        if place not in known:
            known[place] = load(cls, config)
        return known[place]

    ScriptDirectory.from_config = classmethod(from_config)  # type: ignore[assignment, method-assign]
