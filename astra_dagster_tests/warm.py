"""The commands ``astra-dagster``, ``dagster`` and ``python`` without the time that Python takes to import Dagster.

Where it is not the start of a process that is tested, a shell gets small programs of these names. Each asks a server,
which has imported everything and done nothing, to fork: the child has the program's arguments, folder, environment and
standard streams, runs the command, and ends with its exit code. It gets the signals that the program gets, and is ended
when the program is killed. What it starts with ``sys.executable`` is forked as well.
"""

import array
import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NoReturn

from astra_dagster_tests.once import whole_run

PROGRAM = """\
#!{python} -IS
import array, json, os, signal, socket, sys
if "watch_orphans.py" in "".join(sys.argv[1:2]):  # Dagster's, which asks who its parent is
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
request = json.dumps([{name!r}, sys.argv, os.getcwd(), dict(os.environ), os.umask(0o22)]).encode()
server.sendmsg([len(request).to_bytes(4)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
server.sendall(request)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, frame: server.send(bytes([number])))
answer = server.recv(1)
sys.exit(answer[0] if answer else 1)
"""

PR_SET_PDEATHSIG = 1
"""Of Linux: nothing outlives the server."""

IMPORTED = (
    "alembic.command",
    "astropy.io.fits",
    "astropy.table",
    "bokeh.embed",
    "bokeh.plotting",
    "dagster._core.executor.in_process",
    "dagster._core.instance.runs.run_domain",
    "dagster._core.storage.local_compute_log_manager",
    "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage",
    "jinja2",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pandas",
    "pyarrow.parquet",
    "rich.traceback",
)
DEFINITIONS = "astra_dagster.definitions"
LEFT_OUT = {DEFINITIONS, "astra_dagster.spectra.loaders"}
"""Modules that do something when they are imported."""


def start_programs(folder: Path) -> None:
    """Start the server, which ends with the run of the tests, and make the programs in ``bin``."""
    address = folder / "s"
    command = [sys.executable, "-m", "astra_dagster_tests.warm", str(address), str(whole_run())]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert server.stdout is not None
    with server.stdout as told:
        assert told.readline() == b"ready\n"
    server.returncode = 0  # this worker may end before it
    (folder / "bin").mkdir()
    for name in ("astra-dagster", "dagster", "python"):
        program = folder / "bin" / name
        program.write_text(PROGRAM.format(python=sys.executable, address=str(address), name=name))
        program.chmod(0o755)


def serve(address: str, until: int) -> None:
    """Fork a child for each request, until a process ends; returns in the child."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(20)
    print("ready", flush=True)
    watched = selectors.DefaultSelector()
    watched.register(listener, selectors.EVENT_READ)
    end = os.pidfd_open(until)
    watched.register(end, selectors.EVENT_READ)
    children: dict[int, tuple[int, socket.socket]] = {}  # by descriptor: of the process, and of the connection
    while True:
        for key, _ in watched.select():
            if key.fd == end:
                sys.exit()
            if key.fileobj is listener:
                connection = listener.accept()[0]
                name, request, descriptors = receive(connection)
                child = os.fork()
                if child == 0:
                    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                    watched.close()
                    listener.close()
                    connection.close()
                    os.close(end)
                    become(name, request, descriptors)
                    return
                for descriptor in descriptors:
                    os.close(descriptor)
                over = os.pidfd_open(child)
                children[over] = children[connection.fileno()] = child, connection
                watched.register(over, selectors.EVENT_READ)
                watched.register(connection, selectors.EVENT_READ)
                continue
            if key.fd not in children:  # the process has just ended
                continue
            child, connection = children[key.fd]
            if key.fd == connection.fileno():
                sent = connection.recv(1)  # nothing if the program was killed, and nobody waits for an answer
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, sent[0] if sent else signal.SIGTERM)
                if not sent:
                    watched.unregister(connection)
                continue
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with contextlib.suppress(OSError):
                connection.sendall(bytes([code if code >= 0 else 128 - code]))
            for descriptor in (key.fd, connection.fileno()):
                children.pop(descriptor)
                with contextlib.suppress(KeyError):
                    watched.unregister(descriptor)
            os.close(key.fd)
            connection.close()


def receive(connection: socket.socket) -> tuple[str, list[object], "array.array[int]"]:
    """Name of the program, what it was started with, and its standard streams."""
    descriptors = array.array("i")
    length, ancillary, *_ = connection.recvmsg(4, socket.CMSG_SPACE(3 * descriptors.itemsize))
    descriptors.frombytes(ancillary[0][2])
    left, pieces = int.from_bytes(length), b""
    while len(pieces) < left:
        pieces += connection.recv(left - len(pieces))
    name, *request = json.loads(pieces)
    return name, request, descriptors


def become(name: str, request: list[object], descriptors: "array.array[int]") -> None:
    """Be as a process that was started so."""
    arguments, folder, environment, mask = request
    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(str(folder))
    os.umask(int(str(mask)))
    os.environ.clear()
    os.environ.update(dict(environment))  # type: ignore[call-overload]
    sys.executable = str(Path(arguments[0]).with_name("python"))  # type: ignore[index]
    sys.argv = [name, *list(arguments)[1:]]  # type: ignore[call-overload]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False), "utf-8", line_buffering=os.isatty(1))  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(
        open(2, "wb", closefd=False),  # noqa: SIM115
        "utf-8",
        "backslashreplace",
        line_buffering=True,
    )


def python() -> None:
    """Do as Python does with these arguments; they must be of a form that is listed here."""
    arguments = sys.argv[1:]
    if arguments[0] == "-W":
        warnings.simplefilter(arguments[1])  # type: ignore[arg-type]
        del arguments[:2]
    match arguments:
        case ["-c", code, *_]:
            sys.argv = ["-c", *arguments[2:]]
            sys.path.insert(0, "")
            exec(code, {"__name__": "__main__"})  # noqa: S102
        case ["-"]:
            sys.argv = ["-"]
            sys.path.insert(0, "")
            exec(sys.stdin.read(), {"__name__": "__main__"})  # noqa: S102
        case ["-m", module, *_]:
            sys.argv = arguments[1:]
            sys.path.insert(0, str(Path.cwd()))
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case [script, *_]:
            sys.argv = arguments
            sys.path.insert(0, str(Path(script).parent))
            runpy.run_path(script, run_name="__main__")


def leave(code: list[int]) -> None:
    """End at once, with the exit code that is known: freeing what the server imported takes longer than most commands.

    It is the first function that is registered for the end of the process, and so the last that is called.
    """
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code[0] & 0xFF)


def main() -> NoReturn:
    """Serve, and in each child run its command."""
    from dagster._cli import main as dagster

    import astra_dagster
    from astra_dagster_tests import scripts

    code: list[int] = []
    atexit.register(leave, code)
    scripts.remember()
    ours = {module.name for module in pkgutil.walk_packages(astra_dagster.__path__, "astra_dagster.")}
    for name in (*IMPORTED, *sorted(ours - LEFT_OUT)):
        importlib.import_module(name)
    # Made once here and thrown away, definitions are made in a quarter of the time in each child.
    importlib.import_module(DEFINITIONS)
    del sys.modules[DEFINITIONS], astra_dagster.definitions
    from astra_dagster.cli import main as astra

    sys.modules["__main__"].__package__ = None  # of which click makes the program's name
    gc.freeze()
    serve(sys.argv[1], int(sys.argv[2]))
    try:
        sys.exit({"astra-dagster": astra, "dagster": dagster, "python": python}[sys.argv[0]]())
    except SystemExit as end:
        code[:] = [end.code if isinstance(end.code, int) else int(end.code is not None)]
        raise
    except Exception:
        code[:] = [1]
        raise


if __name__ == "__main__":
    main()
