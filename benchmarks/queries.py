"""The GraphQL queries that Dagster's web UI sends, as they stand in the installed web UI itself.

The web server comes with its sources, in the source maps; the queries are written in these, each with the fragments
that it takes.
"""

import functools
import json
import re
from pathlib import Path

import dagster_webserver
from graphql import GraphQLError, parse, print_ast

BUILD = Path(dagster_webserver.__file__).parent / "webapp" / "build"


def query(name: str) -> str:
    """Text of a query, with its fragments.

    Raises
    ------
    SystemExit
        If this version of the web UI has none of that name.
    """
    found: dict[str, str] = {}
    todo = [name]
    while todo:
        wanted = todo.pop()
        if wanted not in found:
            if wanted not in _definitions():
                raise SystemExit(f"the installed web UI has no {wanted}: which query has taken its place?")
            found[wanted] = _definitions()[wanted]
            todo += re.findall(r"\.\.\.(\w+)", found[wanted])  # of an inline fragment a space comes first
    return "\n".join(found.values())


@functools.cache
def _definitions() -> dict[str, str]:
    """Text of each query and fragment, by name."""
    found: dict[str, str] = {}
    for path in BUILD.rglob("*.js.map"):
        for source in json.loads(path.read_text(encoding="utf-8")).get("sourcesContent") or ():
            for document in re.findall(r"gql`(.*?)`", source or "", re.DOTALL):
                try:
                    tree = parse(re.sub(r"\$\{\w+\}", "", document))
                except GraphQLError:  # an example in a comment
                    continue
                found.update((part.name.value, print_ast(part)) for part in tree.definitions if part.name)
    return found
