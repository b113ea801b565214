"""The special functions of the SDSS tree's templates (``@healpixgrp|`` and friends), as pure functions.

One, ``@fullfolder|``, is ours, for templates that `corrections` has in place of the tree's.

Each takes the template's values by SDSS key and the product's name, and returns text. A regular expression of that
text goes with it, so that paths can be read. Results equal those of `sdss_access.path.Path` (tested against it); the
case distinctions on ``run2d`` follow the BOSS pipeline's changes of folder layout.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

LEGACY_RUN2D = ("26", "103", "104")
PLATE_SUFFIX_RUN2D = ("v6_0_1", "v6_0_2", "v6_0_3", "v6_0_4")
PREFIX = {"apo25m": "ap", "apo1m": "ap", "lco25m": "as", "apogee-n": "ap", "apogee-s": "as"}

Values = Mapping[str, str]


@dataclass(frozen=True)
class Special:
    """A special function of the path templates.

    Attributes
    ----------
    function
        Takes the values by SDSS key and the product's name, and returns text, which may be empty.
    pattern
        Regular expression of the text; a named group captures a key that stands in the text.
    keys
        SDSS keys that the function uses.
    optional
        SDSS keys among `keys` that a file may lack.
    """

    function: Callable[[Values, str], str]
    pattern: str
    keys: tuple[str, ...]
    optional: tuple[str, ...] = ()


def _flat_layout(run2d: str) -> bool:
    """Whether the reduction `run2d` has the folder layout from before v6_2."""
    return any(tag in run2d for tag in ("v5", "v6_0", "v6_1")) or run2d in LEGACY_RUN2D


def _full_folder(values: Values, _product: str) -> str:
    return "" if values["run2d"] in LEGACY_RUN2D else "full"


def _plate_group(values: Values, _product: str) -> str:
    number = values.get("plate") or values.get("plateid")
    return f"{int(number) // 100:0>4d}XX" if number else "XX"


def _pad_fieldid(values: Values, _product: str) -> str:
    fieldid = values["fieldid"]
    padded = fieldid.isnumeric() and values.get("run2d") not in PLATE_SUFFIX_RUN2D
    return fieldid.zfill(6) if padded else fieldid


def _field_group(values: Values, _product: str) -> str:
    fieldid = values["fieldid"]
    if _flat_layout(values.get("run2d", "")):
        return ""
    return f"{int(fieldid) // 1000:0>3d}XXX" if fieldid.isnumeric() else fieldid


def _is_plate(values: Values, _product: str) -> str:
    return "p" if values.get("run2d") in PLATE_SUFFIX_RUN2D else ""


_FIELD_FILES_EPOCH = {"speclite_epoch", "specfull_epoch", "spallfield_epoch", "spalllinefield_epoch"}
_SUMMARY_EPOCH = {"fieldlist_epoch", "spall_epoch", "spall-lite_epoch", "spallline_epoch"}
_SUMMARY_DAILY = {"conflist", "fieldlist", "spall", "spall-lite", "spallline"}
_FIELD_FILES_DAILY = {"speclite", "specfull", "spallfield", "spalllinefield"}
_SUMMARY_COADD = {"spall_coadd", "spall-lite_coadd", "spallline_coadd"}
_FIELD_FILES_COADD = {"speclite_coadd", "specfull_coadd", "spallfield_coadd", "spalllinefield_coadd"}


def _type_folder(values: Values, product: str) -> str:
    run2d, name = values.get("run2d", ""), product.lower()
    if not run2d or "v5" in run2d or run2d in LEGACY_RUN2D:
        return ""
    if _flat_layout(run2d):
        if name in _FIELD_FILES_EPOCH:
            return "epoch/spectra"
        return "epoch" if "epoch" in name else ""
    for names, folder in (
        (_SUMMARY_EPOCH, "summary/epoch"),
        (_FIELD_FILES_EPOCH, "spectra/epoch"),
        (_SUMMARY_DAILY, "summary/daily"),
        (_FIELD_FILES_DAILY, "daily"),
    ):
        if name in names:
            return folder
    return "fields"


def _coadd_folder(values: Values, product: str) -> str:
    name = product.lower()
    if not values.get("run2d") or _flat_layout(values["run2d"]):
        return ""
    if name in _SUMMARY_COADD:
        return "summary"
    return values["coadd"] if name in _FIELD_FILES_COADD else "fields"


def _coadd_group(values: Values, _product: str) -> str:
    return "" if not values.get("run2d") or _flat_layout(values["run2d"]) else values["coadd"]


def _coadd_observatory(values: Values, _product: str) -> str:
    observatory, run2d = values.get("obs", "").lower(), values.get("run2d", "")
    if observatory == "apo" and ("v6_0" in run2d or "v6_1" in run2d):
        return ""
    return f"_{observatory}" if observatory else ""


def _epoch_flag(values: Values, _product: str) -> str:
    return "" if _flat_layout(values.get("run2d", "")) else "-epoch"


def _prefix(values: Values, _product: str) -> str:
    return PREFIX[values.get("telescope") or values["instrument"]]


def _number(separator: str, width: int) -> Special:
    def number(values: Values, _product: str) -> str:
        if values.get("ftype", "fits") == "parquet" or not values.get("num"):
            return ""
        return f"{separator}{values['num'].zfill(width)}"

    pattern = rf"(?:{separator}(?P<num>\d+))?"
    return Special(number, pattern, keys=("num",), optional=("num",))


def _id_groups(key: str) -> Special:
    def groups(values: Values, _product: str) -> str:
        number = int(values[key])
        return f"{number // 100 % 100:0>2d}/{number % 100:0>2d}"

    return Special(groups, r"\d\d/\d\d", keys=(key,))


def _id_folder(key: str, form: str, size: int, pattern: str) -> Special:
    return Special(lambda values, _: form.format(int(values[key]) // size), pattern, keys=(key,))


SPECIALS: dict[str, Special] = {
    "platedir": Special(
        lambda values, _: f"{int(values['plateid']) // 100:0>4d}XX/{int(values['plateid']):0>6d}",
        r"\d{4,}XX/(?P<plateid>\d{6,})",
        keys=("plateid",),
    ),
    "plateid6": Special(
        lambda values, _: f"{int(values['plateid']):0>6d}" if int(values["plateid"]) < 10000 else values["plateid"],
        r"(?P<plateid>\d+)",
        keys=("plateid",),
    ),
    "plategrp": Special(_plate_group, r"\d{4,}XX", keys=("plate",)),
    "definitiondir": _id_folder("designid", "{:0>4d}XX", 100, r"\d{4,}XX"),
    "healpixgrp": _id_folder("healpix", "{:d}", 1000, r"\d+"),
    "tilegrp": _id_folder("tileid", "{:0>4d}XX", 1000, r"\d{4,}XX"),
    "configgrp": _id_folder("configid", "{:0>4d}XX", 100, r"\d{4,}XX"),
    "configsubmodule": _id_folder("configid", "{:0>3d}XXX", 1000, r"\d{3,}XXX"),
    "sdss_id_groups": _id_groups("sdss_id"),
    "cat_id_groups": _id_groups("cat_id"),
    "component_default": Special(
        lambda values, _: values.get("component", ""),
        r"(?P<component>[A-Za-z][A-Za-z0-9]*)?",
        keys=("component",),
        optional=("component",),
    ),
    "apgprefix": Special(_prefix, r"a[ps]", keys=()),
    "fullfolder": Special(_full_folder, r"(?:full)?", keys=()),
    "isplate": Special(_is_plate, r"p?", keys=()),
    "pad_fieldid": Special(_pad_fieldid, r"(?P<fieldid>[^/]+?)", keys=("fieldid",)),
    "fieldgrp": Special(_field_group, r"[^/]*", keys=("fieldid",)),
    "sptypefolder": Special(_type_folder, r"[a-z]*(?:/[a-z]+)?", keys=()),
    "spcoaddfolder": Special(_coadd_folder, r"[^/]*", keys=()),
    "spcoaddgrp": Special(_coadd_group, r"[^/]*", keys=()),
    "spcoaddobs": Special(_coadd_observatory, r"(?:_(?P<obs>apo|lco))?", keys=("obs",), optional=("obs",)),
    "epochflag": Special(_epoch_flag, r"(?:-epoch)?", keys=()),
    "mos_target_num": _number("-", 0),
    "mos_target_num2": _number("-", 2),
    "mos_target_num3": _number("-", 3),
    "mos_target_num_underscore": _number("_", 0),
}
"""Special function by name. ``spectrodir``, which chooses a root folder, is part of `templates`."""
