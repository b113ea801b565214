"""Source assets: one for each product, with a partition for each file. What is on disk is compared and recorded here.

They are not external assets: Dagster can run them, and a run looks at the files again. For external assets Dagster
takes stale marks from observations only, and partition pages from materialisations only.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import dagster as dg

from astra_dagster import settings
from astra_dagster.archive.discovery import FoundFile, file_version
from astra_dagster.datamodel.products import SEED_PRODUCTS, DataID, Product, product
from astra_dagster.errors import ConfigurationError, UnknownProductError
from astra_dagster.orchestration import records
from astra_dagster.orchestration.causes import PlainFailure, plain_failures
from astra_dagster.orchestration.internals import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION
from astra_dagster.orchestration.partitions import partitions_def
from astra_dagster.orchestration.watch.settings import tells_by_content
from astra_dagster.outputs import layout
from astra_dagster.planning import inputs
from astra_dagster.planning.inputs import Input
from astra_dagster.planning.planner import Planner
from astra_dagster.spectra.readers import READERS
from astra_dagster.tasks import registry

_MODEL = "https://data.sdss.org/datamodel/files/"
_PAGES = {
    "apVisit": "APOGEE_REDUX/APRED_VERS/visit/TELESCOPE/FIELD/PLATE_ID/MJD5/apVisit.html",
    "apStar": "APOGEE_REDUX/APRED_VERS/stars/TELESCOPE/FIELD/apStar.html",
    "spec": "BOSS_SPECTRO_REDUX/RUN2D/spectra/full/PLATE4/spec.html",
}
_DESCRIPTIONS = {
    "apVisit": "One visit of APOGEE to a star: near-infrared flux, error and mask on three chips, 1.51-1.70 microns, "
    "in 1e-17 erg/s/cm2/Angstrom, as observed, with the sky and telluric models that were removed.",
    "apStar": "One star of APOGEE: the visits resampled to the rest frame on a common logarithmic grid, and their "
    "combination.",
    "spec": "One optical spectrum of SDSS, BOSS or eBOSS: coadded flux and inverse variance over 0.36-1.04 microns "
    "with the pipeline's classification and redshift.",
}
_GROUPS = {
    **{"apVisit": "apogee_visits", "asVisit": "apogee_visits", "ap": "apogee_stars", "as": "apogee_stars"},
    **{"sp": "boss_spectra", "mwm": "milky_way_mapper", "ma": "manga", "lv": "local_volume_mapper"},
}
"""Asset groups by the beginning of a product's name."""


SHOWN = 20
"""Largest number of unreachable files that the message of a failed run lists."""


def group_of(name: str) -> str:
    """Return the asset group of a product."""
    return next((group for start, group in _GROUPS.items() if name.startswith(start)), "sdss")


def source_products() -> list[Product]:
    """Products that have a source asset whether or not a task requires them."""
    found = [product(name) for name in SEED_PRODUCTS]
    for name in settings.config().products:
        try:
            found.append(product(name))
        except UnknownProductError as error:
            raise settings.config_error(f"products: {error.message}", hint=error.hint) from None
    return list(dict.fromkeys(found))


def asset_products() -> list[Product]:
    """All products that have a source asset: those of `source_products`, and what tasks require."""
    every = registry.tasks().values()
    required = (item.product for task in every for item in task.requires if item.task is None)
    common = (file.of for task in every for file in task.common.values() if isinstance(file.of, Product))
    return list(dict.fromkeys([*source_products(), *required, *common]))


def _make_nights_metadata(item: Product) -> dict[str, dg.MetadataValue]:
    """Return metadata that name the list of pages of nights, for a product whose keys have one."""
    try:
        path = settings.outputs_dir() / layout.night_path("index")
    except ConfigurationError:
        return {}
    return {"nights": dg.MetadataValue.path(str(path))} if layout.NIGHT in item.parts else {}


def source_asset(item: Product) -> dg.AssetsDefinition:
    """Make the source asset of a product. A run of it records the files that are new or have changed."""
    page = _PAGES.get(item.name)

    @dg.asset(  # type: ignore[call-overload]
        name=item.asset_name,
        partitions_def=partitions_def(item),
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=group_of(item.name),
        kinds={"fits"} if item.name in READERS else None,
        owners=["team:sdss"],
        description=_DESCRIPTIONS.get(item.name, f"Files of the SDSS data model {item.name}.")
        + f"\n\nA partition is one file; its key reads `{item.key_order}`.",
        metadata={
            "product": item.name,
            "partition_key": item.key_order,
            "data_model": dg.MetadataValue.url(_MODEL + (page or "")),
            **_make_nights_metadata(item),
        },
        output_required=False,
        dagster_type=dg.Nothing,
    )
    def source(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]
        here = context.op_execution_context
        with plain_failures():
            data_ids = [item.parse_key(key) for key in context.partition_keys]
            found = examine(context.instance, item, data_ids, settings.sas_base_dir())
            record(here, item, found)
        unreachable = [f"{file.data_id.key}: {file.error.without_key()}" for file in found if file.error is not None]
        changed = sum(file.file is not None and not file.recorded for file in found)
        gone = sum(file.gone for file in found)
        absent = sum(file.file is None for file in found) - gone - len(unreachable)
        as_recorded = len(found) - changed - gone - absent - len(unreachable)
        context.log.info(
            f"{changed} new or changed, {as_recorded} as recorded, no input yet: {absent}, input gone: {gone}"
        )
        if unreachable:
            listed = "\n".join(unreachable[:SHOWN])
            raise PlainFailure(f"{len(unreachable)} of {len(found)} files cannot be looked at\n{listed}")
        yield dg.Output(None, metadata={SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True})

    return source


def examine(instance: dg.DagsterInstance, item: Product, data_ids: Sequence[DataID], root: Path) -> list[Input]:
    """Look at the files of these data IDs on disk, and compare them with their records."""
    known = records.source_records(instance, item, [data_id.key for data_id in data_ids])
    return inputs.examine(data_ids, root, known, by_content=tells_by_content(item))


def compare(
    instance: dg.DagsterInstance, item: Product, files: Sequence[FoundFile], *, by_content: bool
) -> list[Input]:
    """Compare files that were found with their records, by size and modification time or by content."""
    hashed = by_content or tells_by_content(item)
    known = records.source_records(instance, item, [file.data_id.key for file in files])
    return [inputs.compare(file, known.get(file.data_id.key), by_content=hashed, again=by_content) for file in files]


def make_planner(instance: dg.DagsterInstance, outputs: Path, root: Path, *, verify: bool = False) -> Planner:
    """Planner that goes by Dagster's records, and by the configuration of the products that are watched.

    Parameters
    ----------
    outputs, root
        Folder of all outputs, and top of the SAS mirror.
    verify
        Whether outputs are read and compared with their records, not only their sizes.
    """
    return Planner(records.DagsterLedger(instance), outputs, root, tells_by_content, verify)


def record(context: dg.OpExecutionContext, item: Product, files: Iterable[Input]) -> None:
    """Record the files whose latest record does not say what is on disk; no more than a batch of records is held."""
    changed = (
        records.source_materialisation(
            item,
            found.data_id.key,
            found.version,
            file_version(found.file.size, found.file.mtime_ns),
            {
                "path": dg.MetadataValue.path(str(found.file.path)),
                "size": dg.MetadataValue.int(found.file.size),
                "modified": dg.MetadataValue.timestamp(found.file.mtime_ns / 1e9),
            },
        )
        for found in files
        if found.file is not None and found.version is not None and not found.recorded
    )
    while made := list(islice(changed, records.BATCH)):
        records.write(context, made)
