"""Write, read and recognise the contents of an output, as JSON and as FITS.

Both formats hold the partition key, the provenance and the results; a FITS file also holds spectra, whose HDUs
`astra_dagster.spectra.output` writes. The same inputs and parameters give the same bytes. `layout` knows the paths.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from astra_dagster.files import SMALL, parse_json, read_file
from astra_dagster.fits import writer
from astra_dagster.fits.header import BLOCK, Header
from astra_dagster.fits.reader import LARGEST, FitsFile
from astra_dagster.fits.writer import Card
from astra_dagster.spectra import output
from astra_dagster.spectra.batch import SpectrumBatch
from astra_dagster.spectra.result_arrays import encode_arrays, find_arrays

FORMAT = 3
"""Version of the layout of the outputs that are written."""

READABLE = frozenset({2, FORMAT})
"""Versions of the layout that are read; outputs of others are made again, and never mixed with these in a table.

In layout 2 the table of spectra has a row for each pixel; all else is as in layout 3."""


LISTED = 10_000
"""Most partitions that an output spells out as one of its inputs."""


@dataclass(frozen=True, slots=True)
class InputRef:
    """An input that an output was made from: product or task, path or key, and data version.

    Attributes
    ----------
    members
        If it is many partitions, key and data version of each; of more than `LISTED` none, since `version` is a hash of
        them all.
    """

    name: str
    path: str
    version: str
    members: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """The identity of an output: partition key, task, parameters digest and code version."""

    key: str
    task: str
    digest: str
    code_version: str


@dataclass(frozen=True, slots=True)
class Origin:
    """The provenance of an output: its label, the parameters and the inputs."""

    label: Label
    parameters: Mapping[str, Any]
    inputs: tuple[InputRef, ...]


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """The contents of an output without its spectra, its data version and its size in bytes."""

    origin: Origin
    results: Mapping[str, Any]
    version: str
    size: int


def input_version(versions: Iterable[str]) -> str:
    """Join the data versions of inputs, in order, to the data version of all inputs of an output."""
    return "|".join(versions)


def encode(
    origin: Origin, results: Mapping[str, Any], spectra: SpectrumBatch | None = None, *, several: bool = False
) -> tuple[bytes, str]:
    """Return an output as bytes, FITS if there are spectra and otherwise JSON, and its data version.

    Parameters
    ----------
    several
        Whether the results are lists with one value for each spectrum.
    """
    if spectra is None:
        version = _version(results)
        document = {"key": origin.label.key, "results": dict(results), "version": version}
        return encode_json({**document, "provenance": describe_origin(origin)}), version
    about = {name: values for name, values in spectra.meta.items() if name not in results}
    described = output.describe_cards(spectra)
    arrays = find_arrays(results, several)
    array_cards, table = encode_arrays(arrays, results, several)
    hdus = output.encode_spectra(replace(spectra, meta=about), described) + table
    version = _version(results, hdus)
    texts = {name: value for name, value in results.items() if name not in arrays}
    cards = [*_provenance_cards(origin), *described, *output.result_cards(texts, several), *array_cards]
    cards.append(("VERSION", version, "data version: hash of results and spectra"))
    return writer.make_primary(cards) + hdus, version


def read_same(path: Path, suffix: str, origin: Origin) -> tuple[dict[str, Any], str, int]:
    """Read the results, data version and size of an output of this origin.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError, AstraError
        If it is missing, damaged or of another origin.
    """
    if suffix == "json":
        contents = read_file(path, SMALL)
        document = parse_json(contents)
        if document["provenance"] != describe_origin(origin) or document["key"] != origin.label.key:
            raise ValueError("of another origin")
        return document["results"], _check_version(document), len(contents)
    contents = read_file(path, 2 * LARGEST)
    if not contents.startswith(writer.begin_of_primary(_provenance_cards(origin))):
        raise ValueError("of another origin")
    with FitsFile(path) as file:
        header, start = file.hdu(0).header, file.hdu(0).offset
        results = output.read_results(file)
    version = _version(results, contents[start:])
    if header.text("VERSION") != version:
        raise ValueError("damaged")
    return results, version, len(contents)


def read(path: Path, suffix: str) -> StoredOutput:
    """Read an output, but not its spectra.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError, AttributeError, AstraError
        If there is none, or it cannot be read.
    """
    if suffix == "fits":
        with FitsFile(path, hint="run its task again") as file:
            header = file.hdu(0).header
            _check_layout(header.get("FORMAT"))
            results = output.read_results(file)
        return StoredOutput(_origin_in(header), results, header.text("VERSION") or "", file.size)
    contents = read_file(path)
    document = parse_json(contents)
    about = document["provenance"]
    _check_layout(about["format"])
    origin = Origin(_label_in(document), about["parameters"], tuple(map(_input_in, about["inputs"])))
    return StoredOutput(origin, dict(document["results"]), _check_version(document), len(contents))


def read_results(path: Path) -> dict[str, Any]:
    """Read the results of a JSON output, whatever its origin.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError
        If there is none, or it cannot be read.
    """
    document = parse_json(read_file(path))
    _check_version(document)
    return dict(document["results"])


def read_version(path: Path, suffix: str) -> str:
    """Work out the data version of an output from all that it holds.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError, AttributeError, AstraError
        If there is none, or it is damaged.
    """
    if suffix == "json":
        return _check_version(parse_json(read_file(path)))
    with FitsFile(path, hint="run its task again") as file:
        results, start = output.read_results(file), file.hdu(0).offset
    return _version(results, read_file(path, 2 * LARGEST)[start:])


def read_label(stream: BinaryIO, suffix: str) -> Label:
    """Read the label of an output, from the first bytes of the file.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError, AttributeError
        If the file is not an output.
    """
    if suffix == "fits":
        return _label_cards(Header(stream.read(BLOCK)))
    document = parse_json(stream.read(SMALL))
    if "results" not in document:
        raise ValueError("no output")
    return _label_in(document)


def encode_json(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON, in the form of all JSON files of this package."""
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def describe_origin(origin: Origin) -> dict[str, Any]:
    """Return the provenance of an output as a JSON output spells it."""
    label = origin.label
    return {
        "format": FORMAT,
        "task": label.task,
        "code_version": label.code_version,
        "parameters": dict(origin.parameters),
        "parameters_digest": label.digest,
        "inputs": [
            {
                "name": item.name,
                "path": item.path,
                "data_version": item.version,
                **({"members": dict(item.members)} if item.members else {}),
            }
            for item in origin.inputs
        ],
    }


def _input_in(item: Mapping[str, Any]) -> InputRef:
    members = {str(key): str(version) for key, version in item.get("members", {}).items()}
    return InputRef(str(item["name"]), str(item["path"]), str(item["data_version"]), tuple(members.items()))


def _label_in(document: Mapping[str, Any]) -> Label:
    about = document["provenance"]
    texts = (document["key"], about["task"], about["parameters_digest"], about["code_version"])
    return Label(*map(str, texts))


def _provenance_cards(origin: Origin) -> list[Card]:
    label = origin.label
    inputs: list[Card] = []
    for number, item in enumerate(origin.inputs, start=1):
        inputs += [
            (f"INNAM{number}", item.name, "product or task of the input"),
            (f"INPATH{number}", item.path, "input, below SAS_BASE_DIR"),
            (f"INVER{number}", item.version, "data version of the input"),
        ]
        if item.members:
            inputs.append((f"INMEM{number}", json.dumps(dict(item.members)), ""))
    return [
        ("ORIGIN", output.ORIGIN, "program that wrote this"),
        ("FORMAT", FORMAT, "version of the layout"),
        ("LONGSTRN", "OGIP 1.0", "long texts are continued"),
        ("KEY", label.key, "partition key"),
        ("TASK", label.task, "task"),
        ("CODEVER", label.code_version, "code version of the task"),
        ("DIGEST", label.digest, "digest of the parameters"),
        *output.make_pairs("PAR", origin.parameters, "parameter"),
        *inputs,
    ]


def _label_cards(header: Header) -> Label:
    if header.get("ORIGIN") != output.ORIGIN:
        raise ValueError("no output")
    return Label(*(str(header.get(name)) for name in ("KEY", "TASK", "DIGEST", "CODEVER")))


def _origin_in(header: Header) -> Origin:
    inputs: list[InputRef] = []
    while (name := header.text(f"INNAM{len(inputs) + 1}")) is not None:
        number = len(inputs) + 1
        path, version = header.text(f"INPATH{number}") or "", header.text(f"INVER{number}") or ""
        members = parse_json(header.text(f"INMEM{number}") or "{}")
        inputs.append(InputRef(name, path, version, tuple(members.items())))
    return Origin(_label_cards(header), output.read_pairs(header, "PAR"), tuple(inputs))


def _check_layout(version: object) -> None:
    if version not in READABLE:
        raise ValueError(f"its layout {version} is not one of {', '.join(map(str, sorted(READABLE)))}")


def _check_version(document: Mapping[str, Any]) -> str:
    """Return the hash of the results of a JSON output; they must have the one that it holds, as all but old ones do."""
    version = _version(document["results"])
    if document.get("version", version) != version:
        raise ValueError("damaged: the results do not agree with their hash")
    return version


def _version(results: Mapping[str, Any], hdus: bytes = b"") -> str:
    text = json.dumps(dict(results), sort_keys=True, separators=(",", ":"), allow_nan=False)
    hashed = hashlib.sha256(text.encode())
    hashed.update(hdus)
    return hashed.hexdigest()[:16]
