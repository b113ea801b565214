"""What a record and a run show in the web UI: numbers, places, a picture, counts, failures and histograms."""

import base64
import re
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._utils.error import serializable_error_info_from_exc_info

from astra_dagster import product
from astra_dagster.definitions import defs
from astra_dagster.orchestration.partitions import registered
from astra_dagster.orchestration.runs.preview_metadata import FEW, escape_markdown
from astra_dagster.orchestration.runs.summary import draw_histograms
from astra_dagster.tasks import registry
from astra_dagster.tasks.parameters import bounds

VISITS = product("apVisit")
LIMITS = bounds(registry.tasks()["ap_visit_continuum"].parameters)
PICTURES = True


@pytest.fixture
def keys(instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    config = tmp_path / "astra.toml"
    config.write_text('workers = "in-process"\n')
    monkeypatch.setenv("ASTRA_CONFIG", str(config))
    assert defs.resolve_job_def("discover").execute_in_process(instance=instance).success
    return list(registered(instance, VISITS))


def materialise(instance: dg.DagsterInstance, keys: list[str], *assets: str) -> Any:
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(name) for name in assets],
        tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]},
        raise_on_error=False,
    )


def metadata(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    (record,) = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    assert record.asset_materialization is not None
    return dict(record.asset_materialization.metadata)


@pytest.mark.parametrize("asset", ["ap_visit_snr", "ap_visit_continuum"])
def test_the_record_of_a_partition(instance: dg.DagsterInstance, keys: list[str], tmp_path: Path, asset: str) -> None:
    assert materialise(instance, keys[:1], asset).success
    shown = metadata(instance, asset)
    visit = VISITS.parse_key(keys[0])
    assert shown["input"].value.endswith(visit.relative_path)
    assert shown["sas"] == dg.MetadataValue.url(visit.url)
    assert Path(shown["output"].value).is_file()
    assert 0 < shown["seconds"].value < 60
    if asset == "ap_visit_snr":
        assert isinstance(shown["snr"], dg.FloatMetadataValue)
    text = shown["preview"].value
    head = "](data:image/png;base64,"
    assert text.startswith(f"![{'apVisit' if asset == 'ap_visit_snr' else escape_markdown(asset)} {keys[0]}{head}")
    png = base64.b64decode(text.partition(head)[2].removesuffix(")"))
    assert png.startswith(b"\x89PNG")
    assert len(png) < 60_000
    quicklook = shown["quicklook"].value
    assert len(quicklook) < 1000  # what is longer, the web UI hides behind a click
    assert re.fullmatch(
        r"!\[.*\]\(data:image/svg\+xml,[^ ()]+\)\n\n15\d+ to 169\d+ Angstrom, .*flux .* to .*", quicklook
    )
    page = Path(shown["page"].value)
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert page.parent == tmp_path / "outputs" / "pages"


def test_a_run_over_many_draws_nothing(instance: dg.DagsterInstance, keys: list[str], tmp_path: Path) -> None:
    assert materialise(instance, keys[: FEW + 1], "ap_visit_snr").success
    assert "preview" not in metadata(instance, "ap_visit_snr")
    assert not (tmp_path / "outputs" / "pages").exists()


def test_a_complete_partition_gets_its_picture_without_being_computed_again(
    instance: dg.DagsterInstance, keys: list[str]
) -> None:
    assert materialise(instance, keys[: FEW + 1], "ap_visit_snr").success
    for _ in range(2):
        shown = summary(materialise(instance, keys[:1], "ap_visit_snr"), "ap_visit_snr")
        assert (shown["complete before"].value, "computed" in shown) == (1, False)
        assert "quicklook" in metadata(instance, "ap_visit_snr")
    records = instance.fetch_materializations(dg.AssetKey("ap_visit_snr"), limit=100).records
    assert len(records) == FEW + 2


def summary(result: Any, asset: str) -> dict[str, Any]:
    (event,) = [e for e in result.all_events if e.is_successful_output and e.step_key == asset]
    return dict(event.step_output_data.metadata)


@pytest.mark.usefixtures("windows")
def test_a_run_says_what_became_of_its_partitions(instance: dg.DagsterInstance, keys: list[str], mirror: Path) -> None:
    VISITS.parse_key(keys[1]).path(mirror).unlink()
    shown = summary(materialise(instance, keys[:6], "ap_visit_snr"), "ap_visit_snr")
    assert (shown["computed"].value, shown["input gone"].value) == (5, 1)
    assert "snr: 5 from " in shown["results"].value
    assert "failures" not in shown
    again = summary(materialise(instance, keys[:8], "ap_visit_snr"), "ap_visit_snr")
    assert (again["computed"].value, again["complete before"].value) == (2, 5)


@pytest.mark.usefixtures("windows")
def test_complete_partitions_are_recorded_again_for_a_backfill(instance: dg.DagsterInstance, keys: list[str]) -> None:
    for expected, tags in ((1, {}), (1, {}), (2, {"dagster/backfill": "some"})):
        result = defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("ap_visit_snr")],
            tags={"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[4], **tags},
        )
        assert result.success
        assert len(instance.fetch_materializations(dg.AssetKey("ap_visit_snr"), limit=100).records) == 5 * expected


@pytest.mark.usefixtures("windows")
def test_a_run_that_fails_lists_its_failures(instance: dg.DagsterInstance, keys: list[str], mirror: Path) -> None:
    broken = VISITS.parse_key(keys[2]).path(mirror)
    broken.write_bytes(b"not FITS")
    result = materialise(instance, keys[:6], "ap_visit_snr")
    (event,) = [e for e in result.all_events if e.is_step_failure]
    error = event.step_failure_data.error
    assert (error.stack, error.cause, error.message.splitlines()[0]) == ([], None, "1 of 6 partitions failed")
    shown = event.step_failure_data.user_failure_data.metadata
    assert (shown["computed"].value, shown["failed"].value) == (5, 1)
    (row,) = shown["failures"].records
    assert row.data["partition"] == keys[2]
    assert "not a FITS file" in row.data["reason"]
    assert "fetch it again" in row.data["reason"]
    assert "snr" in shown["results"].value


def test_histograms() -> None:
    text = draw_histograms({"snr": [1.0, 1.0, 1.0, 13.0], "flat": [2.0, 2.0]})
    lines = text.splitlines()
    assert lines[1] == "snr: 4 from 1 to 13, median 1"
    assert lines[2].split("|")[1].split() == ["#" * 40, "3"]
    assert lines[13].split("|")[1].split() == ["#" * 14, "1"]
    assert "flat: 2 from 2 to 2, median 2" in text


def test_graph_reads_like_the_survey() -> None:
    graph = defs.resolve_asset_graph()
    groups = {key.to_user_string(): graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert groups["ap_visit"] == groups["ap_visit_snr"] == groups["ap_visit_continuum"] == "apogee_visits"
    assert groups["ap_star"] == groups["ap_star_snr"] == "apogee_stars"
    assert groups["spec"] == groups["spec_continuum"] == "boss_spectra"
    assert groups["ap_visit_snr_table"] == "tables"
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners, key
        assert node.kinds, key
        assert node.description, key
        assert node.description[0].isupper(), key
        assert "." in node.description, key
    columns = graph.get(dg.AssetKey("ap_visit_snr")).metadata["dagster/column_schema"].columns
    assert {column.name for column in columns} >= {"snr", "snr_green", "good_pixels"}
    assert all(column.description for column in columns)


@pytest.mark.parametrize(("name", "value", "message"), [("order", 0, "at least 1"), ("L", -3.0, "at least 1")])
def test_the_launchpad_refuses_a_bad_value_before_there_is_a_run(
    instance: dg.DagsterInstance, keys: list[str], name: str, value: float, message: str
) -> None:
    config = {"ops": {"ap_visit_continuum": {"config": {name: value}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match=message) as refused:
        defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey("ap_visit_continuum")],
            partition_key=keys[0],
            run_config=config,
        )
    shown = serializable_error_info_from_exc_info((refused.type, refused.value, refused.tb))
    assert shown.to_string() == f"{name} cannot be {value}; it must be {LIMITS[name]}"
    assert not [run for run in instance.get_runs() if run.job_name != "discover"]


@pytest.mark.parametrize(
    "text", ["a|b", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", "`code`", "&lt;", "a_b*c*", "\\"]
)
def test_no_text_is_markdown(text: str) -> None:
    escaped = escape_markdown(text)
    assert re.sub(r"\\([\\`*_\[\]|<>&~])", r"\1", escaped) == text
    assert not re.search(r"(?<!\\)[`*_\[\]|<>&~]", re.sub(r"\\\\", "", escaped))
