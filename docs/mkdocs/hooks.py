"""What MkDocs does to the pages besides: marks of code blocks, and the page that the commands make of themselves."""

import inspect
import re
from collections.abc import Iterator

import click

FENCE = re.compile(r"^```(\w+)[ \t]+([^\n`]+)$", re.MULTILINE)
FOR_THE_TEST = {"fails", "no-test", "unchanged"}
COMMANDS = "<!-- the commands -->"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Page as the Markdown extensions take it."""
    if COMMANDS in markdown:
        from astra_dagster.cli import main

        markdown = markdown.replace(COMMANDS, "\n\n".join(_described(main, "astra-dagster")))
    return FENCE.sub(_fence, markdown)


def _fence(found: re.Match[str]) -> str:
    """A block that is a file has its path as title; marks say how a test runs it, and are nothing to a reader."""
    paths = [mark for mark in found[2].split() if mark not in FOR_THE_TEST]
    return f"```{found[1]}" + "".join(f' title="{path}"' for path in paths)


def _described(command: click.Command, name: str, above: click.Context | None = None) -> Iterator[str]:
    """A command and those below it: what it does, an example, how it is used, and its options."""
    settings = {"max_content_width": 100, "terminal_width": 100, **command.context_settings}
    context = click.Context(command, parent=above, info_name=name, **settings)
    yield f"## {context.command_path}"
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        if paragraph.startswith("Example: "):
            yield f"```sh\n{paragraph.removeprefix('Example: ')}\n```"
        else:
            yield _kept(paragraph)
    formatter = context.make_formatter()
    command.format_usage(context, formatter)
    command.format_options(context, formatter)
    yield f"```text\n{formatter.getvalue()}```"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            found = command.get_command(context, each)
            if found is not None:
                yield from _described(found, each, context)


def _kept(paragraph: str) -> str:
    """A paragraph; where its lines are not to be wrapped, as a block."""
    mark, newline, rest = paragraph.partition("\n")
    return f"```text\n{rest}\n```" if newline and mark.strip() == "\b" else paragraph
