"""A partition that cannot be run says what to do about it, whoever asks."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from astra_dagster import product
from astra_dagster.errors import AstraError, ConfigurationError, InvalidKeyError
from astra_dagster.orchestration.partitions import partitions_def, register

VISITS = product("apVisit")
KEY = "DR17/apo25m/120+12/5226/56000/001"


def validate(instance: dg.DagsterInstance, key: str) -> None:
    with partition_loading_context(dynamic_partitions_store=instance) as context:
        partitions_def(VISITS).validate_partition_key(key, context)


def test_a_key_that_is_not_registered_is_an_error_of_ours(instance: dg.DagsterInstance) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        validate(instance, KEY)
    assert caught.value.hint == "run astra-dagster discover --release DR17 --product apVisit"
    with pytest.raises(AstraError, match="has 2 parts, a key of apVisit has 6"):
        validate(instance, "DR17/apo25m")
    register(instance, VISITS, [KEY])
    validate(instance, KEY)


def test_so_are_settings_that_are_missing(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAS_BASE_DIR")
    with pytest.raises(ConfigurationError, match="SAS_BASE_DIR is not set"):
        validate(instance, KEY)


def test_outputs_must_have_a_place(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ASTRA_OUTPUTS", str(tmp_path / "file" / "below"))
    with pytest.raises(ConfigurationError, match="the outputs cannot be written"):
        validate(instance, KEY)
