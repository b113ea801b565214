"""Made-up events of every kind that Dagster's storages tell apart, in a fixed order of chance."""

import random
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.events import (
    AssetMaterializationFailure,
    AssetMaterializationFailureReason,
    AssetMaterializationFailureType,
)
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.events import (
    AssetFailedToMaterializeData,
    AssetMaterializationPlannedData,
    AssetObservationData,
    AssetWipedData,
    DagsterEvent,
    EngineEventData,
    JobFailureData,
    StepMaterializationData,
)
from dagster._core.events.log import EventLogEntry
from dagster._core.execution.plan.objects import StepSuccessData

RUNS = [f"{i}0000000-0000-4000-8000-000000000000" for i in range(1, 5)]
ASSETS = [dg.AssetKey("a"), dg.AssetKey(["x", "b"]), dg.AssetKey("c")]
UNKNOWN = dg.AssetKey("quiet")
PARTITIONS = [f"DR17/{name}" for name in ("one", "two", "three", "four", 'quoted "5"', "vis\u00edvel")]
CHECKS = [dg.AssetCheckKey(asset, name) for asset in ASSETS for name in ("positive", "finite")]
START = 1_700_000_000.0


def entry(
    kind: str, run_id: str, time: float, data: Any = None, *, step: str | None = None, **named: Any
) -> EventLogEntry:
    event = DagsterEvent(kind, "job", event_specific_data=data, step_key=step, **named)
    return EventLogEntry(None, 10, "", run_id, time, step, "job", event)


def materialisation(
    run_id: str, time: float, asset: dg.AssetKey | str, partition: str | None, tags: dict[str, str] | None = None
) -> EventLogEntry:
    made = dg.AssetMaterialization(asset, partition=partition, tags=tags, metadata={"snr": time - START, "path": "p"})
    return entry("ASSET_MATERIALIZATION", run_id, time, StepMaterializationData(made), step="a")


def materialisations(run_id: str, n: int) -> list[EventLogEntry]:
    tags = {"dagster/data_version": run_id}
    return [materialisation(run_id, START + i, "a", f"{run_id}-{i}", tags) for i in range(n)]


def planned(run_id: str, time: float, asset: dg.AssetKey, partition: str | None) -> EventLogEntry:
    return entry(
        "ASSET_MATERIALIZATION_PLANNED", run_id, time, AssetMaterializationPlannedData(asset, partition), step="a"
    )


def check_planned(
    run_id: str, time: float, check: dg.AssetCheckKey, subset: DefaultPartitionsSubset | None
) -> EventLogEntry:
    data = AssetCheckEvaluationPlanned(asset_key=check.asset_key, check_name=check.name, partitions_subset=subset)
    return entry("ASSET_CHECK_EVALUATION_PLANNED", run_id, time, data, step="c")


@dataclass
class Chance:
    """Events one after the other, each later than the one before, or at the same time."""

    seed: int
    time: float = START
    planned_checks: dict[tuple[Any, ...], None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def batch(self) -> list[EventLogEntry]:
        """Some events: mostly of one run and one kind, sometimes of everything."""
        kinds = list(self.kinds())
        one_kind, one_run = self.random.choice(kinds[:3]), self.random.choice([*RUNS, ""])
        mixed, many_runs = self.random.random() < 0.5, self.random.random() < 0.3
        made: list[EventLogEntry | None] = []
        for _ in range(self.random.choice([1, 2, 5, 12, 30])):
            self.time += self.random.choice([0.0, 0.001, 1.5])
            kind = self.random.choice(kinds) if mixed else one_kind
            made.append(kind(self.random.choice([*RUNS, ""]) if many_runs else one_run))
        made = [event for event in made if event is not None]
        # Dagster drops this kind before it looks for the end of the batch, which must therefore be another.
        return sorted(made, key=lambda event: event.dagster_event_type != "ASSET_FAILED_TO_MATERIALIZE")

    def kinds(self) -> Any:
        """Ways to make an event; the first three are those of which there are many."""
        return (
            self.materialisation,
            self.planned,
            self.observation,
            self.planned_subset,
            self.failed_to_materialise,
            self.check_planned,
            self.check_evaluated,
            self.freshness,
            self.wiped,
            self.step,
            self.engine,
            self.said,
        )

    def asset(self) -> dg.AssetKey:
        return self.random.choice(ASSETS)

    def partition(self) -> str | None:
        return self.random.choice([*PARTITIONS, None])

    def tags(self) -> dict[str, str] | None:
        some = {"dagster/data_version": f"v{self.random.randrange(4)}", "dagster/code_version": "1"}
        return self.random.choice(
            [some, some, {**some, "dagster/partition/night": "n1", "mine": "x"}, {"mine": "y"}, None]
        )

    def materialisation(self, run_id: str) -> EventLogEntry:
        return materialisation(run_id, self.time, self.asset(), self.partition(), self.tags())

    def planned(self, run_id: str) -> EventLogEntry:
        return planned(run_id, self.time, self.asset(), self.partition())

    def observation(self, run_id: str) -> EventLogEntry:
        seen = dg.AssetObservation(self.asset(), partition=self.partition(), tags=self.tags())
        return entry("ASSET_OBSERVATION", run_id, self.time, AssetObservationData(seen), step="b")

    def planned_subset(self, run_id: str) -> EventLogEntry:
        subset = DefaultPartitionsSubset(set(self.random.sample(PARTITIONS, 2)))
        data = AssetMaterializationPlannedData(self.asset(), partitions_subset=subset)
        return entry("ASSET_MATERIALIZATION_PLANNED", run_id, self.time, data, step="a")

    def failed_to_materialise(self, run_id: str) -> EventLogEntry:
        failure = AssetMaterializationFailure(
            asset_key=self.asset(),
            partition=self.partition(),
            failure_type=AssetMaterializationFailureType.FAILED,
            reason=AssetMaterializationFailureReason.FAILED_TO_MATERIALIZE,
        )
        return entry("ASSET_FAILED_TO_MATERIALIZE", run_id, self.time, AssetFailedToMaterializeData(failure))

    def check_planned(self, run_id: str) -> EventLogEntry | None:
        check = self.random.choice(CHECKS)
        several = self.random.random() < 0.3
        subset = DefaultPartitionsSubset({PARTITIONS[0], PARTITIONS[1]}) if several else None
        keys = {(check, run_id, key) for key in (PARTITIONS[:2] if several else [None])}
        if not run_id or keys & set(self.planned_checks):  # Dagster plans a check of a run once
            return None
        self.planned_checks |= dict.fromkeys(keys)
        return check_planned(run_id, self.time, check, subset)

    def check_evaluated(self, run_id: str) -> EventLogEntry | None:
        open_checks = [key for key in self.planned_checks if key[1] == run_id]
        check, _, partition = self.random.choice(open_checks or [(self.random.choice(CHECKS), "", None)])
        if not open_checks:
            run_id = ""
        target = AssetCheckEvaluationTargetMaterializationData(
            storage_id=self.random.randrange(1, 50), run_id=run_id, timestamp=START
        )
        data = dg.AssetCheckEvaluation(
            asset_key=check.asset_key,
            check_name=check.name,
            passed=self.random.random() < 0.5,
            metadata={"n": dg.MetadataValue.int(1)},
            target_materialization_data=self.random.choice([target, None]),
            partition=partition,
        )
        return entry("ASSET_CHECK_EVALUATION", run_id, self.time, data, step="c")

    def freshness(self, run_id: str) -> EventLogEntry:
        data = FreshnessStateChange(
            key=self.asset(),
            new_state=FreshnessState.PASS,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=self.time,
        )
        return entry("FRESHNESS_STATE_CHANGE", run_id, self.time, data)

    def wiped(self, run_id: str) -> EventLogEntry:
        return entry("ASSET_WIPED", run_id, self.time, AssetWipedData(asset_key=self.asset(), partition_keys=None))

    def step(self, run_id: str) -> EventLogEntry:
        kind, data = self.random.choice([("STEP_START", None), ("STEP_SUCCESS", StepSuccessData(1.5))])
        return entry(kind, run_id, self.time, data, step=self.random.choice("abc"))

    def engine(self, run_id: str) -> EventLogEntry:
        return entry("ENGINE_EVENT", run_id, self.time, EngineEventData({}), message="engine")

    def said(self, run_id: str) -> EventLogEntry:
        return EventLogEntry(None, 20, f"line {self.random.randrange(99)}", run_id, self.time, "a", "job", None)

    def status(self, run_id: str, kind: str) -> EventLogEntry:
        """A change of a run's status, as Dagster writes it: by itself."""
        self.time += 0.5
        data = JobFailureData(error=None) if kind == "PIPELINE_FAILURE" else None
        return entry(kind, run_id, self.time, data)
