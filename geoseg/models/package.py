"""ModelPackage: a folder or one .zip with a network, all that is needed to use it, and nothing that runs as code."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from geoseg.errors import PackageError
from geoseg.io import stac
from geoseg.io.atomic import atomic
from geoseg.models.card import model_card
from geoseg.models.description import Figure, ModelDescription, Output, parse_description
from geoseg.models.files import LARGEST_METADATA, open_files

__all__ = ["DEFAULT_PACKAGE", "PACKAGE_VERSION", "Figure", "ModelDescription", "ModelPackage", "Output", "write_package"]

PACKAGE_VERSION = "1"
"""Version of the package format that this geoseg writes and reads."""
DEFAULT_PACKAGE = Path(__file__).parent / "default"
"""The package that ships with geoseg: water from Sentinel-2."""
METADATA, ONNX, WEIGHTS, CARD = "model.json", "model.onnx", "weights.safetensors", "README.md"
INT8_ONNX = "model.int8.onnx"
"""The network once more, in 8-bit integers."""
INT8_PARITY = "int8_parity.json"
"""How well it agrees with the one in 32 bits."""
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""The same files give the same bytes, whenever they are zipped."""


class ModelPackage(ModelDescription):
    """A description that has files: the network as ONNX, as safetensors weights, or both.

    Opening reads model.json and compares every other file with the checksum written there. Nothing is unpickled, no code
    of the package runs, nothing is downloaded.

    >>> package = geoseg.ModelPackage.open(geoseg.DEFAULT_PACKAGE)
    >>> package.outputs[0].legend.names
    ('not water', 'water')
    """

    path: Path
    """The folder, or the .zip."""
    checksum: str
    """SHA-256 of model.json in hexadecimal digits; stands for the whole package, because model.json holds the other checksums."""
    checksums: dict[str, str]
    """File name → SHA-256 in hexadecimal digits, of every file but model.json."""

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The package in a folder or .zip; PackageError where it is damaged, of another version, or no package."""
        with open_files(path) as files:
            metadata = files.read(METADATA, largest=LARGEST_METADATA)
            item = _parse(metadata, files.path)
            fields = stac.model_description(item)
            _check_version(fields.pop("package_version", None), files.path)
            checksums = _checksums(item, files.path)
            for name, expected in checksums.items():
                _verify(files.digest(name), expected, name, files.path)
        description = parse_description(fields, str(path))
        if not {ONNX, WEIGHTS} & checksums.keys():
            raise PackageError(f"{path} holds no network; expected {ONNX} or {WEIGHTS}: fetch or make the package again")
        return cls(**dict(description), path=files.path, checksum=hashlib.sha256(metadata).hexdigest(), checksums=checksums)

    def read(self, name: str) -> bytes:
        """The bytes of one file, compared with its checksum; PackageError where the package has none of that name."""
        if name not in self.checksums:
            raise PackageError(f"{self.path} has no {name}; it has {', '.join(sorted(self.checksums))}")
        with open_files(self.path) as files:
            data = files.read(name)
        _verify(hashlib.sha256(data).hexdigest(), self.checksums[name], name, self.path)
        return data

    @property
    def onnx(self) -> bytes:
        """The network as an ONNX graph; PackageError where there is none."""
        return self.read(ONNX)

    @property
    def weights(self) -> bytes | None:
        """The network's weights as safetensors; None in a package with ONNX only."""
        return self.read(WEIGHTS) if WEIGHTS in self.checksums else None


def write_package(
    out: str | Path,
    description: ModelDescription,
    *,
    onnx: bytes | None,
    weights: bytes | None = None,
    others: Mapping[str, bytes] | None = None,
    card: str = "",
    zip: bool = False,
) -> ModelPackage:
    """Write a package to a new folder (or a .zip, when asked or so named), whole or not at all, and open it.

    At least one of `onnx` and `weights` (safetensors) is given; `others` are further files, name → bytes, such as figures;
    `card` is Markdown that follows the model card.
    Raises PackageError where `out` exists or there is no network, OutputError where it cannot be written.
    """
    out = Path(out)
    if out.exists():
        raise PackageError(f"{out} exists already; choose another name for the model package, or remove it")
    networks = {name: data for name, data in ((ONNX, onnx), (WEIGHTS, weights)) if data is not None}
    if not networks:
        raise PackageError(f"no network for the model package {out}; give the ONNX graph, the safetensors weights, or both")
    files = {**(others or {}), **networks}
    files[CARD] = "\n".join(filter(None, (model_card(description), card))).encode()
    plain = description.model_dump(mode="json", include=set(ModelDescription.model_fields))
    item = stac.model_item({"package_version": PACKAGE_VERSION, **plain}, _assets(files))
    files[METADATA] = (json.dumps(item, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    with atomic(out) as part:
        _write(part, files, as_zip=zip or out.suffix.lower() == ".zip")
    return ModelPackage.open(out)


def _write(part: Path, files: Mapping[str, bytes], *, as_zip: bool) -> None:
    if as_zip:
        with zipfile.ZipFile(part, "w") as archive:
            for name, data in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data, zipfile.ZIP_DEFLATED)
    else:
        part.mkdir()
        for name, data in files.items():
            (part / name).write_bytes(data)


_KINDS: dict[str, dict[str, Any]] = {
    ONNX: {
        "media_type": "application/octet-stream; framework=onnx",
        "title": "Network as an ONNX graph",
        "roles": ["mlm:model", "data"],
        "fields": {"mlm:artifact_type": "onnx", "mlm:framework": "ONNX"},
    },
    WEIGHTS: {
        "media_type": "application/octet-stream; application=safetensors",
        "title": "Weights of the network",
        "roles": ["mlm:model", "mlm:weights", "data"],
        "fields": {"mlm:artifact_type": "safetensors.torch.save_file", "mlm:framework": "PyTorch"},
    },
    INT8_ONNX: {
        "media_type": "application/octet-stream; framework=onnx",
        "title": "Network in 8-bit integers as an ONNX graph",
        "roles": ["mlm:model", "data"],
        "fields": {"mlm:artifact_type": "onnx", "mlm:framework": "ONNX"},
    },
    INT8_PARITY: {
        "media_type": "application/json",
        "title": "Agreement of the network in 8-bit integers with that in 32 bits",
        "roles": ["metadata"],
        "fields": {},
    },
    CARD: {"media_type": "text/markdown", "title": "Model card", "roles": ["metadata"], "fields": {}},
}
_OTHER: dict[str, Any] = {"media_type": "application/octet-stream", "title": "Further file", "roles": ["metadata"], "fields": {}}


def _assets(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    assets = {}
    for name, data in files.items():
        kind = {**_KINDS.get(name, _OTHER)}
        fields = kind.pop("fields")
        assets[name] = stac.asset(data, href=f"./{name}", **kind) | fields
    return assets


def _parse(metadata: bytes, path: Path) -> dict[str, Any]:
    try:
        item = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path} is damaged: its {METADATA} is not JSON ({error}); fetch or make it again") from error
    if not isinstance(item, dict) or not isinstance(item.get("properties"), dict) or not isinstance(item.get("assets"), dict):
        raise PackageError(f"{path} is no model package: its {METADATA} is not a STAC Item; expected one that geoseg wrote")
    return item


def _check_version(version: object, path: Path) -> None:
    if version is None:
        raise PackageError(f"{path} is no model package of geoseg: its {METADATA} states no geoseg:package_version")
    if version != PACKAGE_VERSION:
        raise PackageError(f"{path} has package version {version!r}; this geoseg reads {PACKAGE_VERSION!r}: use the geoseg that wrote it")


def _checksums(item: Mapping[str, Any], path: Path) -> dict[str, str]:
    """File name → SHA-256; every file lies flat in the package."""
    checksums = {}
    for key, value in item["assets"].items():
        href, multihash = (value.get("href"), value.get("file:checksum")) if isinstance(value, dict) else (None, None)
        if href != f"./{key}" or "/" in key or "\\" in key or not isinstance(multihash, str) or not multihash.startswith("1220"):
            raise PackageError(f"{path} is damaged: file {key!r} in {METADATA} is outside the package or has no SHA-256; fetch it again")
        checksums[key] = multihash.removeprefix("1220")
    return checksums


def _verify(found: str, expected: str, name: str, path: Path) -> None:
    if found != expected:
        text = f"{name} has SHA-256 {found[:12]}…, {METADATA} says {expected[:12]}…"
        raise PackageError(f"{path} is damaged or was changed: {text}; fetch or make the package again")
