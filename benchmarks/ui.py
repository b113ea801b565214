"""Time of what the pages of the web UI ask for: ``python benchmarks/ui.py --files 1000 10000 100000``.

So many partitions of S/N are recorded (nothing is computed for it), and a web server is started over them. Each page
then sends its queries, those of the installed web UI, one after another: seconds of the first time and of the second.
The first query of a kind after the start pays for what Dagster keeps for later ones.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import night
import requests
from contenders import Contender, Place, nights
from growth import records_only
from measure import load, table
from queries import query

SNR = "ap_visit_snr"
ASSETS = ("ap_visit", "ap_visit_snr", "ap_visit_continuum")
EVENTS = ["MATERIALIZATION", "OBSERVATION", "FAILED_TO_MATERIALIZE"]
RUNS = {"limit": 30, "view": "RUNS", "filter": {}}
PATIENCE = 180
"""Seconds that the server gets to start, and to answer a query."""

Asked = tuple[str, str, dict[str, Any]]
"""Page, name of a query, and its variables."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--folder", type=Path, help="where to make the temporary folder")
    arguments = parser.parse_args()
    print(load(), flush=True)
    sizes = sorted(arguments.files)
    columns: list[dict[str, tuple[float, float]]] = []
    with nights(arguments.folder, max(sizes)) as mirrors:
        for files in sizes:
            with mirrors.place(files) as place:
                Contender("ours", records_only(tuple)).run(place)
                with server(place) as url:
                    columns.append(measure(url, files))
    rows = [["s", *(f"{files}{which}" for files in sizes for which in ("", " again"))]]
    rows += [[name, *(f"{x:.3f}" for column in columns for x in column[name])] for name in columns[0]]
    print(table(rows))
    for files, column in zip(sizes, columns, strict=True):
        slowest = [max(column, key=lambda name: column[name][turn]) for turn in (0, 1)]
        print(f"{files}: slowest is {slowest[0]}, the second time {slowest[1]}")
    print(load())


def pages(files: int, run_id: str) -> list[Asked]:
    """What each page asks for."""
    keys = [data_id.key for data_id in night.data_ids(files)]
    asset = {"assetKey": {"path": [SNR]}}
    everything = {"assetKeys": [{"path": [name]} for name in ASSETS]}
    last = {**asset, "partitionKey": keys[-1]}
    return [
        ("graph of the assets", "AssetGraphLiveQuery", everything),
        ("graph of the assets", "AssetStaleStatusDataQuery", everything),
        ("asset", "AssetViewDefinitionQuery", asset),
        ("asset", "AssetOverviewMetadataEventsQuery", asset),
        ("asset", "LatestAssetPartitionsQuery", {**asset, "limit": 120}),
        ("asset", "AssetPartitionEventsQuery", {**asset, "partitions": keys[-120:]}),
        ("asset, events", "RecentAssetEventsQuery", {**asset, "limit": 100, "eventTypeSelectors": EVENTS}),
        ("asset, partitions", "PartitionHealthQuery", asset),
        ("partition", "AssetPartitionDetailQuery", last),
        ("partition", "AssetPartitionStaleQuery", last),
        ("dialogue to launch", "LaunchAssetLoaderQuery", {"assetKeys": [{"path": [SNR]}]}),
        ("runs", "RunsFeedRootQuery", RUNS),
        ("run", "RunRootQuery", {"runId": run_id}),
        ("run", "RunStatsQuery", {"runId": run_id}),
        ("run", "RunLogsQuery", {"runId": run_id, "limit": 1000}),
    ]


def measure(url: str, files: int) -> dict[str, tuple[float, float]]:
    """Seconds of each query, the first and the second time."""
    run_id = ask(url, "RunsFeedRootQuery", RUNS)[1]["runsFeedOrError"]["results"][0]["id"]
    times: dict[str, list[float]] = {}
    for _ in range(2):
        for page, name, variables in pages(files, run_id):
            seconds, data = ask(url, name, variables)
            check(name, data, files)
            times.setdefault(f"{page}: {name}", []).append(seconds)
    return {name: (first, second) for name, (first, second) in times.items()}


def ask(url: str, name: str, variables: dict[str, Any]) -> tuple[float, Any]:
    """Send a query as the web UI does; return seconds until the answer is there, and the answer."""
    body = {"operationName": name, "variables": variables, "query": query(name)}
    start = time.perf_counter()
    answer = requests.post(url, json=body, timeout=PATIENCE)
    seconds = time.perf_counter() - start
    said = answer.json()
    if answer.status_code != 200 or "errors" in said:
        raise SystemExit(f"{name}: {json.dumps(said)[:2000]}")
    return seconds, said["data"]


def check(name: str, data: Any, files: int) -> None:
    """See that an answer is one: a query of what is not there is answered fast."""
    if name == "PartitionHealthQuery":
        done = data["assetNodeOrError"]["assetPartitionStatuses"]["materializedPartitions"]
        assert len(done) == files, f"{len(done)} of {files} partitions are materialised"  # noqa: S101
    elif name == "AssetPartitionDetailQuery":
        assert data["assetOrError"]["assetEventHistory"]["results"], "no event of the partition"  # noqa: S101


@contextmanager
def server(place: Place) -> Iterator[str]:
    """Address of the GraphQL of a web server over the records of a place."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "dagster_webserver", "-m", "astra_dagster.definitions", "-p", str(port)]
    log = (place.folder / "webserver.log").open("wb")
    with (
        log,
        subprocess.Popen(
            command, env=place.environment, stdout=log, stderr=log, cwd=place.folder, start_new_session=True
        ) as process,
    ):
        try:
            _await(f"http://127.0.0.1:{port}/server_info", process, place.folder / "webserver.log")
            yield f"http://127.0.0.1:{port}/graphql"
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _await(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            requests.get(url, timeout=5)
        except requests.ConnectionError:
            time.sleep(0.2)
        else:
            return
    raise SystemExit(f"the web server did not start:\n{log.read_text(errors='replace')[-2000:]}")


if __name__ == "__main__":
    main()
