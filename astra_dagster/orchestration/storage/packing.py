"""Pack the texts of events into fewer bytes, and unpack them.

An event is two to five kilobytes of JSON, nearly all of it the same in each. Deflate, begun with a dictionary of what
is usual, leaves a tenth, and costs less time than the disk takes for the rest. The first byte of what is packed says
which dictionary it is. A dictionary that has been released stays as it is, or nothing written with it can be read; a
better one is added with another first byte.
"""

import zlib

from astra_dagster.errors import StorageError

_WINDOW = -13
"""Window of 8 kB, as texts are shorter, without a header."""

_MEMORY, _LEVEL = 6, 3

_VALUES = (
    ("JsonMetadataEntryData", "data", '{"reject": ["BADPIX", "CRPIX", "SATPIX", "UNFIXABLE", "BADDARK", "BADERR"]}'),
    ("TextMetadataEntryData", "text", '""'),
    ("TimestampMetadataValue", "value", "17"),
    ("IntMetadataEntryData", "value", "1"),
    ("UrlMetadataEntryData", "url", '"https://data.sdss.org/sas/dr17/apogee/spectro/redux/dr17/visit/apo25m/"'),
    ("PathMetadataEntryData", "path", '"/spectro/boss/redux/spectra/apVisit-.fits"'),
    ("FloatMetadataEntryData", "value", "0.0"),
)
_LABELS = (
    *("row", "class", "z", "zwarning", "instrument", "telescope", "mjd", "flags", "chi2", "envelope_scatter"),
    *("fraction_used", "line_depth", "steps", "condition", "spectra", "snr_all", "snr", "snr_median", "der_snr"),
    *("good_pixels", "snr_blue", "snr_green", "snr_red", "object", "ra", "dec", "header_snr", "v_rad", "v_source"),
    *("starflag", "made_from", "modified", "size", "path", "output", "input", "sas", "seconds", "parameters"),
)
_EVENT = (
    '{"__class__": "EventLogEntry", "dagster_event": {"__class__": "DagsterEvent", "event_specific_data": '
    '{"__class__": "AssetObservationData", "asset_observation": {"__class__": "AssetObservation", "asset_key": '
    '"description": "the file is gone", "metadata_entries": [], '
    '"AssetMaterializationPlannedData", "asset_key": {"__class__": "AssetKey", "path": [""]}, "partition": '
    '"partitions_subset": null}, "event_type_value": "ASSET_MATERIALIZATION_PLANNED", to be materialised.", '
    '"StepMaterializationData", "asset_lineage": [], "materialization": {"__class__": "AssetMaterialization", '
    '"asset_key": {"__class__": "AssetKey", "path": ["ap_visit_snr"]}, "description": null, "metadata_entries": ['
)
_REST = (
    '}, "label": "parameters"}], "partition": "DR17/apo25m/", "tags": {"astra/file": "-17", '
    '"dagster/code_version": "1", "dagster/data_version": "", "dagster/input_data_version/ap_visit": "-17", '
    '"dagster/input_event_pointer/ap_visit": "1"}}}, '
    '"event_type_value": "ASSET_MATERIALIZATION", "logging_tags": {}, "message": "DR17/apo25m/ materialised.", '
    '"pid": 1, "pipeline_name": "discover", "solid_handle": {"__class__": "SolidHandle", "name": "discover_files", '
    '"parent": null}, "step_handle": {"__class__": "StepHandle", "key": "update_ap_visit_snr_partitions", '
    '"solid_handle": {"__class__": "SolidHandle", "name": "update_", "parent": null}}, "step_key": "discover_files", '
    '"step_kind_value": "COMPUTE"}, "error_info": null, "level": 10, "message": "", "pipeline_name": "discover", '
    '"run_id": "", "step_key": "discover_files", "timestamp": 17, "user_message": ""}'
)


def _make_dictionary() -> bytes:
    """Return what is usual in an event; what comes last costs least to refer to."""
    before = '{"__class__": "EventMetadataEntry", "description": null, "entry_data": {"__class__": '
    values = [f'{before}"{kind}", "{field}": {value}}}, "label": "path"}}, ' for kind, field, value in _VALUES]
    labels = [f'}}, "label": "{label}"}}, ' for label in _LABELS]
    return "".join([*values, _EVENT, *labels, _REST]).encode()


DICTIONARIES = {1: _make_dictionary()}
"""Dictionary by the first byte of what was packed with it."""

_LATEST = 1
_COMPRESSOR = zlib.compressobj(
    _LEVEL, zlib.DEFLATED, _WINDOW, _MEMORY, zlib.Z_DEFAULT_STRATEGY, DICTIONARIES[_LATEST]
)  # which is copied, as reading the dictionary takes longer than packing an event


def pack(text: str) -> bytes:
    """Pack a text."""
    compressor = _COMPRESSOR.copy()
    return bytes([_LATEST]) + compressor.compress(text.encode()) + compressor.flush()


def unpack(packed: bytes) -> str:
    """Return the text that was packed.

    Raises
    ------
    StorageError
        If it was packed by a later version of this package, or is damaged.
    """
    dictionary = DICTIONARIES.get(packed[0]) if packed else None
    if dictionary is None:
        raise StorageError("an event was written by a later version of astra_dagster", hint="update astra_dagster")
    opened = zlib.decompressobj(_WINDOW, zdict=dictionary)
    try:
        text = opened.decompress(memoryview(packed)[1:]).decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise StorageError(f"an event in Dagster's database is damaged: {error}", hint="restore a backup") from error
    if not opened.eof or opened.unused_data:
        raise StorageError("an event in Dagster's database is cut off", hint="restore a backup")
    return text
