"""The text of an event is the one that Dagster writes, for every kind of event and of metadata."""

import math

import dagster as dg
import pytest
from dagster._core.definitions.dependency import NodeHandle
from dagster._core.events import DagsterEvent, StepMaterializationData
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.plan.handle import StepHandle

from astra_dagster.orchestration.storage import event_text
from astra_dagster.orchestration.storage.event_text import write_texts
from astra_dagster_tests.orchestration.storage.events import RUNS, START, Chance, materialisations

METADATA = {
    "float": 0.1,
    "tiny": 1e-300,
    "nan": math.nan,
    "infinite": -math.inf,
    "int": -(10**20),
    "text": 'quoted "5" \\ é\N{SNOWMAN}\x00\n',
    'label "5" é': "",
    "path": dg.MetadataValue.path("/a/b"),
    "url": dg.MetadataValue.url("https://example.org/?a=b&c"),
    "json": dg.MetadataValue.json({"b": [1, None, {"d": 0.5, "a": True}], "a": "é"}),
    "list": [1, 2.5, "x"],
    "timestamp": dg.MetadataValue.timestamp(START),
}


def record(metadata: dict[str, object] = METADATA, **named: object) -> EventLogEntry:
    """The event of a record, with all that a step gives it."""
    made = dg.AssetMaterialization(["x", "é"], metadata=metadata, **named)
    node = NodeHandle("node", NodeHandle("graph", None))
    event = DagsterEvent(
        "ASSET_MATERIALIZATION",
        "job",
        step_handle=StepHandle(node),
        node_handle=node,
        step_kind_value="COMPUTE",
        logging_tags={"b": "1", "a": "2"},
        event_specific_data=StepMaterializationData(made),
        message='"one" materialised.',
        pid=12,
    )
    return EventLogEntry(None, 10, "said", RUNS[0], START + 0.25, "graph.node", "job", event)


RECORDS = [
    record(partition="DR17/é", tags={"b": "1", "a/c": "2"}, description='of "one"'),
    record({}),
    *materialisations(RUNS[0], 1),
]


@pytest.mark.parametrize("event", RECORDS)
def test_a_record_is_written_as_dagster_writes_it(event: EventLogEntry) -> None:
    assert event_text._write_record(event) == dg.serialize_value(event)


def test_every_kind_of_metadata_is_written_the_fast_way() -> None:
    kinds = {
        type(value) for value in RECORDS[0].dagster_event.step_materialization_data.materialization.metadata.values()
    }
    assert kinds == event_text._VALUES.keys()


@pytest.mark.parametrize(
    "event", [record({"bool": True}), record({"table": dg.MetadataValue.md("*a*")})], ids=["bool", "markdown"]
)
def test_unusual_metadata_are_left_to_dagster(event: EventLogEntry) -> None:
    assert event_text._write_record(event) is None
    assert write_texts([*RECORDS, event]) == [dg.serialize_value(one) for one in [*RECORDS, event]]


@pytest.mark.parametrize("seed", range(20))
def test_all_events_are_written_as_dagster_writes_them(seed: int) -> None:
    events = [*RECORDS, *Chance(seed).batch()]
    for one in (events, events[::-1], events[:1]):
        assert write_texts(one) == [dg.serialize_value(event) for event in one]


def test_dagster_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it wrote its events in another way from now on."""
    monkeypatch.setattr(event_text.dg, "serialize_value", lambda event: f"new {event.timestamp}")
    assert write_texts(RECORDS) == [f"new {event.timestamp}" for event in RECORDS]
