"""Parts that the commands share: options, the Dagster instance, runs, and errors in one line."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from astra_dagster.cli import failures
from astra_dagster.errors import AstraError, InvalidKeyError

if TYPE_CHECKING:  # slow to import
    import dagster as dg

    from astra_dagster.datamodel.products import DataID


class Group(click.Group):
    """A group whose commands turn every error into one line on stderr and exit code 1."""

    def main(self, *arguments: Any, **named: Any) -> Any:
        """Run the command line, and handle the error if its output cannot be written."""
        try:
            return super().main(*arguments, **named)
        except OSError as error:
            if not failures.of_output(error):
                raise
            told = failures.without_output(error)
            told.show()
            sys.exit(told.exit_code)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, and convert its errors."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except AstraError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt:
            raise click.exceptions.Exit(failures.STOPPED) from None
        except Exception as error:
            if isinstance(error, OSError) and failures.of_output(error):
                raise failures.without_output(error) from error
            raise failures.failure(error) from error


class TaskCommand(click.Command):
    """A command that uses tasks, and also prints which parts of the configuration are left out as broken."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command, and print the errors of broken parts that its own error does not contain."""
        try:
            done = super().invoke(ctx)
        except (AstraError, click.ClickException, click.exceptions.Exit) as error:
            with suppress(AstraError):  # the configuration cannot be read: the command has said so
                self._tell(str(error))
            raise
        self._tell()
        return done

    def _tell(self, said: str = "") -> None:
        from astra_dagster.orchestration.loading.broken import broken_parts

        tell_left_out({name: error for name, error in broken_parts().items() if error.message not in said})


def tell_left_out(parts: Mapping[str, AstraError]) -> None:
    """Print the errors of parts that are left out, each in one line."""
    for error in parts.values():
        click.echo(f"left out: {error}", err=True)


def selection(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that select partitions to a command: ``--release`` and ``--where``."""
    for option in (
        click.option(
            "--where",
            "where",
            multiple=True,
            metavar="PART=VALUE",
            help="Only these: mjd=56439, plate=5226,5227, mjd=56000..56100, field=120*.",
        ),
        click.option("--release", "releases", multiple=True, metavar="NAME", help="Only this release; repeatable."),
    ):
        command = option(command)
    return command


keys_option = click.option(
    "--keys",
    "listed",
    metavar="FILE",
    help="Only the partitions of a list: keys, plate-mjd-fibre or names of stars, or a table of them; - for stdin.",
)


def split_keys(words: Sequence[str], listed: str | None, *, selected: bool) -> tuple[list[str], list[str]]:
    """Return the names of tasks among the arguments of a command, and the keys among them and in a list."""
    from astra_dagster.datamodel.key_lists import read_list

    tasks, keys = [word for word in words if "/" not in word], [word for word in words if "/" in word]
    if not tasks:
        raise click.UsageError("name a task before its keys")
    if listed is not None:
        keys += read_list(listed)
    if keys and selected:
        raise click.UsageError("give keys, or --release and --where, not both")
    return tasks, keys


def check_workers(text: str) -> None:
    """Check that workers have one of the known forms, or a name of the configuration; nothing is started."""
    from astra_dagster import settings
    from astra_dagster.errors import ConfigurationError
    from astra_dagster.execution.workers import Workers

    try:
        if text and text not in settings.config().clusters:
            Workers.parse(text)
    except ConfigurationError as error:
        raise click.UsageError(f"--workers: {error}") from error


verify_option = click.option(
    "--verify", is_flag=True, help="Read outputs, and find those that differ from their records."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead, for programs.")


def put_json(document: object) -> None:
    """Print a JSON document, which must be all that is printed on stdout."""
    click.echo(json.dumps(document, indent=1, default=str))


def task_names(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of tasks with this beginning, for completion in the shell."""
    from astra_dagster.tasks import registry

    try:
        return [name for name in registry.tasks() if name.startswith(incomplete)]
    except AstraError:
        return []


setting = click.option(
    "--set",
    "values",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter, order=5, or that of a task it requires, spec_continuum.order=5.",
)


def settings_of(texts: Sequence[str]) -> dict[str, object]:
    """Parse the options ``--set`` to values by name."""
    return dict(pair(text, "--set") for text in texts)


def also_set(texts: Sequence[str], *, others: bool = False) -> dict[str, object]:
    """Return the field of a launch for what ``--set`` sets of other tasks, if it sets any.

    Parameters
    ----------
    others
        Whether there are other tasks, for which names without that of a task are too.
    """
    from astra_dagster.orchestration.runs.launchpad import ALSO_SET

    given = {name: value for name, value in settings_of(texts).items() if others or "." in name}
    return {ALSO_SET: given} if given else {}


@contextmanager
def open_instance() -> Iterator["dg.DagsterInstance"]:
    """Open the Dagster instance of DAGSTER_HOME; make the folder if it is missing."""
    import dagster as dg

    from astra_dagster.orchestration.causes import opening_error
    from astra_dagster.orchestration.runs.instance import prepare_home

    home = prepare_home()
    with ExitStack() as stack:
        try:
            instance = stack.enter_context(dg.DagsterInstance.get())
        except Exception as error:
            raise failures.failure(error, opening_error(error, home)) from error
        yield instance


def data_id_of(key: str, name: str | None) -> "DataID":
    """Parse a key, as one of the named product or else of the only source asset with such a key or file."""
    from astra_dagster import settings
    from astra_dagster.datamodel import products
    from astra_dagster.orchestration.sources import source_products

    if name:
        return products.product(name).parse_key(key)
    known, fitting, errors = source_products(), [], []
    for item in known:
        try:
            fitting.append(item.parse_key(key))
        except AstraError as error:
            if len(item.parts) == key.count("/"):
                errors.append(error)
    there = fitting
    if len(fitting) > 1:
        root = settings.sas_base_dir()
        there = [data_id for data_id in fitting if data_id.existing_path(root)] or fitting
    if len(there) == 1:
        return there[0]
    if there:
        names = " or ".join(f"--product {data_id.product.name}" for data_id in there)
        raise InvalidKeyError("this is the key of files of several products", key=key, hint=f"add {names}")
    if len({str(error) for error in errors}) == 1:  # for example an unknown release
        raise errors[0]
    grammar = ", ".join(f"{item.name} {item.key_order}" for item in known)
    raise InvalidKeyError(
        f"{key[:100]!r} is no key of a source asset", hint=f"keys read: {grammar}; else add --product"
    )


def pair(text: str, option: str) -> tuple[str, object]:
    """Parse ``NAME=VALUE``; the value is text unless it is valid JSON."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{option} takes NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def where_of(texts: Sequence[str]) -> dict[str, list[str]]:
    """Parse the options ``--where`` to values by the name of the part."""
    where: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise click.UsageError(f"--where takes PART=VALUE, not {text!r}")
        where.setdefault(name, []).append(value)
    return where


def raise_failures(result: "dg.ExecuteInProcessResult") -> None:
    """Raise an error that says why a run failed, if it did: its own message, or else that of its error."""
    if result.success:
        return
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data is not None:
                raise click.ClickException(str(data.user_failure_data.description))
            if data.error and data.error.cls_name == "DagsterExecutionInterruptedError":
                click.echo("Error: stopped; what is done is recorded, and the same command does the rest", err=True)
                raise click.exceptions.Exit(failures.STOPPED)
            if data.error:
                raise failures.of_step(data.error)
    raise click.ClickException(f"the run {result.run_id} failed")
