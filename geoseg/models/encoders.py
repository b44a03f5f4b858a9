"""Encoder: what was learned without labels, as a folder or .zip with weights (safetensors) and a description (JSON).

It is no model package, since it makes no map: `geoseg train … -s pretrained=ENCODER` makes one of it. Opening it compares the files
with their checksums; nothing is unpickled, no code of it runs, nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from geoseg.errors import InputError, PackageError
from geoseg.io.atomic import atomic
from geoseg.models.files import LARGEST_METADATA, open_files
from geoseg.preprocess.prepare import Preparation

ENCODER_VERSION = "1"
"""Version of the format that this geoseg writes and reads."""
DESCRIPTION, ENCODER_WEIGHTS = "encoder.json", "encoder.safetensors"
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
"""The same files give the same bytes, whenever they are zipped."""


class EncoderDescription(BaseModel):
    """All that is known of an encoder without its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    title: str
    description: str = ""
    """What it has learned from."""
    licence: str
    """SPDX identifier of the weights' licence."""
    restriction: str = ""
    """What that licence forbids, in one line; empty where it asks for no more than to be named."""
    preparation: Preparation
    """The bands by role in the order of the network's channels, and the statistics with which they are normalised."""
    architecture: dict[str, JsonValue]
    """What rebuilds the network for its weights: `size`, `patch` and `depth` of `geoseg.backbones.vit`."""
    pixel_size_m: float = Field(gt=0)
    """Edge of a pixel in metres that it was trained at; the mean where scenes differed."""
    sensors: tuple[str, ...] = ()
    training: dict[str, JsonValue] = {}
    """Data, settings and losses of the training, as plain values."""
    attribution: str = ""
    """What the providers of the scenes ask to be written beside results."""
    created: AwareDatetime
    versions: dict[str, str] = {}
    """Versions of the software that made it."""

    @property
    def roles(self) -> tuple[str, ...]:
        """The bands of its channels, in order."""
        return tuple(channel.name for channel in self.preparation.channels)


class Encoder(EncoderDescription):
    """A description that has files."""

    path: Path
    """The folder, or the .zip."""
    checksums: dict[str, str]
    """File name → SHA-256 in hexadecimal digits, of every file but the description."""

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The encoder in a folder or .zip; PackageError where it is damaged, of another version, or none."""
        with open_files(path) as files:
            plain = _parse(files.read(DESCRIPTION, largest=LARGEST_METADATA), path)
            version, checksums = plain.pop("encoder_version", None), plain.pop("checksums", None)
            if version != ENCODER_VERSION:
                raise PackageError(
                    f"{path} has encoder version {version!r}; this geoseg reads {ENCODER_VERSION!r}: use the geoseg that wrote it"
                )
            if not isinstance(checksums, dict) or ENCODER_WEIGHTS not in checksums:
                raise PackageError(f"{path} is damaged: its {DESCRIPTION} names no {ENCODER_WEIGHTS}; fetch or make it again")
            for name, expected in checksums.items():
                if files.digest(name) != expected:
                    raise PackageError(
                        f"{path} is damaged or was changed: {name} is not what {DESCRIPTION} says; fetch or make the encoder again"
                    )
        try:
            return cls.model_validate({**plain, "path": Path(path), "checksums": checksums})
        except (ValidationError, InputError) as error:
            first = str(error).splitlines()[0]
            raise PackageError(f"{path} is damaged or was not written by geoseg ({first}); fetch or make the encoder again") from error

    @property
    def weights(self) -> bytes:
        """The network's state as safetensors."""
        return self.read(ENCODER_WEIGHTS)

    def read(self, name: str) -> bytes:
        """The bytes of one file; PackageError where there is none of that name."""
        if name not in self.checksums:
            raise PackageError(f"{self.path} has no {name}; it has {', '.join(sorted(self.checksums))}")
        with open_files(self.path) as files:
            return files.read(name)


def is_encoder(path: str | Path) -> bool:
    """Whether an encoder lies there, a folder or .zip; one that is damaged counts."""
    path = Path(path)
    if path.is_dir():
        return (path / DESCRIPTION).exists()
    return zipfile.is_zipfile(path) and DESCRIPTION in zipfile.ZipFile(path).namelist()


def write_encoder(
    out: str | Path, description: EncoderDescription, *, weights: bytes, others: Mapping[str, bytes] | None = None
) -> Encoder:
    """Write an encoder to a new folder, or a .zip where `out` is so named, whole or not at all, and open it.

    `others` are further files, name → bytes. Raises PackageError where `out` exists, OutputError where it cannot be written.
    """
    out = Path(out)
    if out.exists():
        raise PackageError(f"{out} exists already; choose another name for the encoder, or remove it")
    files = {**(others or {}), ENCODER_WEIGHTS: weights}
    plain = {
        "encoder_version": ENCODER_VERSION,
        **description.model_dump(mode="json", include=set(EncoderDescription.model_fields)),
        "checksums": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }
    files[DESCRIPTION] = (json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    with atomic(out) as part:
        if out.suffix.lower() == ".zip":
            with zipfile.ZipFile(part, "w") as archive:
                for name, data in sorted(files.items()):
                    archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), data, zipfile.ZIP_DEFLATED)
        else:
            part.mkdir()
            for name, data in files.items():
                (part / name).write_bytes(data)
    return Encoder.open(out)


def _parse(text: bytes, path: str | Path) -> dict[str, JsonValue]:
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PackageError(f"{path} is damaged: its {DESCRIPTION} is not JSON ({error}); fetch or make it again") from error
    if not isinstance(plain, dict):
        raise PackageError(f"{path} is damaged: its {DESCRIPTION} holds no description; fetch or make it again")
    return plain
