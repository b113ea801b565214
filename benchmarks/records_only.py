"""``astra-dagster`` with no reading, computing and writing: ``python benchmarks/records_only.py run ap_visit_snr``.

What is left is what a run does besides: plan, spread, collect, record. The workers say of every file at once that its
output is written, with the same results for each; no output is there afterwards.
"""

from collections.abc import Sequence

from astra_dagster.execution import runner
from astra_dagster.execution.runner import Item
from astra_dagster.outputs.store import StoredOutput

SIZE = 900
VERSION = "0123456789abcdef"


def made_chunk(folders: Sequence[str], stores: bytes, chunk: Sequence[Item]) -> list[StoredOutput]:
    """Say that a chunk is done. As in a run, the stores come pickled, and notes of earlier failures are removed."""
    opened = runner._unpickle(tuple(folders), stores)
    done = []
    for i, work in chunk:
        opened[i].forget_failure(work.data_id)
        results = {name: 12.5 + 1 / len(name) for name in opened[i].task.columns}
        done.append(StoredOutput(opened[i].path(work.data_id), SIZE, VERSION, results))
    return done


def main() -> None:
    """Run a command of ours."""
    import records_only  # not as the main module, which workers do not have

    from astra_dagster.cli import main as command

    runner._run_pickled_chunk = records_only.made_chunk
    command()


if __name__ == "__main__":
    main()
