"""Sentinel-1 GRD products as they are downloaded: what a SAFE folder or zip holds, and what its annotation says.

Layout: manifest.safe; for each polarisation annotation/NAME.xml, annotation/calibration/calibration-NAME.xml and noise-NAME.xml, and
measurement/NAME.tiff (ESA, Sentinel-1 Product Specification, S1-RS-MDA-52-7441; NAME ends in `-cog` in products stored as COG).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import SceneError
from geoseg.io.names import parse_time
from geoseg.radar.geolocation import GeolocationGrid
from geoseg.radar.lookup_tables import AzimuthBlock, Noise, Vectors
from geoseg.radar.safe import MANIFEST, Safe

Pass = Literal["ascending", "descending"]

SCALED_NOISE_IPF = 2.50
"""Processors before this one annotate noise that is not yet in the image's own units (SNAP's RemoveGRDBorderNoiseOp and its source,
ESA's MPC-0243, scale it by constants that no product states)."""

_CHANNEL = re.compile(r"(?i)annotation/(?P<stem>s1[a-d]-\w+-\w+-(?P<polarisation>vv|vh|hh|hv)-[^/]+?)(-cog)?\.xml")
_ENDS = (("first", "0"), ("last", str(1 << 30)))
_OTHERS = {
    "SLC": "is a single-look complex product (SLC), which is not read; give the ground range product (GRD) of the same pass",
    "RAW": "is raw data (Level 0), which is not read; give the ground range product (GRD) of the same pass",
    "OCN": "is an ocean product (OCN) of derived winds and waves, which is not read; give the ground range product (GRD) of the same pass",
}


@dataclass(frozen=True)
class Channel:
    """One polarisation of a product."""

    polarisation: str
    """`vv`, `vh`, `hh` or `hv`."""
    image: str
    """The measurement as GDAL opens it: digital numbers (uint16), 0 where there is no data."""
    annotation: str
    calibration: Vectors
    """What a digital number is divided by for the root of sigma0 (`sigmaNought`)."""
    noise: Noise | None
    """None where the product states none that can be used."""
    noise_removed: bool
    """Whether the processor has subtracted the noise already."""


@dataclass(frozen=True)
class GrdProduct:
    """A ground range detected product: its images, all on one grid of lines and samples, and where they lie."""

    name: str
    """Safe in file names."""
    given: str
    """What the user wrote."""
    channels: tuple[Channel, ...]
    """At least one."""
    grid: GeolocationGrid
    mode: str
    """`IW`, `EW` or a strip map beam, `S1` … `S6`."""
    spacing_m: float
    """Distance from sample to sample on the ground."""
    orbit_pass: Pass | None
    time: datetime | None
    processor: float | None
    """Version of ESA's processor (IPF), such as 3.31; None where the manifest does not say it."""
    warnings: tuple[str, ...]

    @cached_property
    def border_channel(self) -> Channel:
        """The polarisation by which the image's border is found: one that is sent and received alike, where there is one."""
        return next((channel for channel in self.channels if channel.polarisation in ("vv", "hh")), self.channels[0])


def read_grd(safe: Safe) -> GrdProduct:
    """What a product's manifest and annotation say; SceneError where it is no GRD product, or incomplete."""
    manifest = _texts(safe.parse(MANIFEST))
    kind = manifest.get("productType", [""])[0].strip() or next((word for word in _OTHERS if f"_{word}" in safe.name), "")
    if kind != "GRD":
        raise SceneError(f"{safe.given} {_OTHERS.get(kind, f'is a product of type {kind!r}, which is not read; give a GRD product')}")
    processor = _processor(safe.parse(MANIFEST))
    stated = [word.strip().lower() for word in manifest.get("transmitterReceiverPolarisation", [])]
    files = {match["polarisation"].lower(): match for name in safe.members if (match := _CHANNEL.fullmatch(name))}
    warnings = []
    channels, first = [], None
    for polarisation in dict.fromkeys([*stated, *files]):
        image = _image(safe, polarisation)
        if image is None:
            warnings.append(f"{polarisation.upper()} is left out: {safe.given} names it, but its image is missing.")
            continue
        match = files.get(polarisation)
        if match is None:
            raise SceneError(
                f"{safe.given} lacks the annotation of {polarisation.upper()} (annotation/s1*-grd-{polarisation}-*.xml), which says "
                "where its image lies; fetch the product again"
            )
        root = safe.parse(match.string)
        first = first if first is not None else root
        channels.append(_channel(safe, match, root, image, processor))
    if first is None:
        raise SceneError(f"{safe.given} holds no image (measurement/*.tiff); fetch the product again")
    return GrdProduct(
        name=safe.name,
        given=safe.given,
        channels=tuple(channels),
        grid=_geolocation(first),
        mode=_text(first, "adsHeader/mode"),
        spacing_m=round(_number(first, "imageAnnotation/imageInformation/rangePixelSpacing"), 3),
        orbit_pass=_pass(first),
        time=parse_time(_text(first, "adsHeader/startTime")),
        processor=processor,
        warnings=(*warnings, *_noise_doubts(channels, processor)),
    )


# ---------------------------------------------------------------- below: where the files are


def _image(safe: Safe, polarisation: str) -> str | None:
    pattern = re.compile(rf"(?i)measurement/s1[a-d]-\w+-\w+-{polarisation}-[^/]+\.tiff?")
    return next((name for name in safe.members if pattern.fullmatch(name)), None)


def _beside(safe: Safe, kind: str, stem: str) -> str | None:
    """The calibration or noise file of a channel."""
    wanted = f"annotation/calibration/{kind}-{stem}".lower()
    return next((name for name in safe.members if name.lower().removesuffix(".xml").removesuffix("-cog") == wanted), None)


# ---------------------------------------------------------------- below: what the annotation says


def _channel(safe: Safe, match: re.Match[str], root: Element, image: str, processor: float | None) -> Channel:
    polarisation = match["polarisation"].lower()
    calibration = _beside(safe, "calibration", match["stem"])
    if calibration is None:
        raise SceneError(
            f"{safe.given} lacks the calibration of {polarisation.upper()} (annotation/calibration/calibration-{match['stem']}.xml), "
            "without which its numbers are no backscatter; fetch the product again"
        )
    done = _text(root, "imageAnnotation/processingInformation/thermalNoiseCorrectionPerformed", "false") == "true"
    noise = _beside(safe, "noise", match["stem"])
    usable = noise is not None and not done and (processor is None or processor >= SCALED_NOISE_IPF)
    return Channel(
        polarisation=polarisation,
        image=safe.gdal_path(image),
        annotation=safe.gdal_path(match.string),
        calibration=_vectors(safe.parse(calibration), "calibrationVector", "sigmaNought"),
        noise=_noise(safe.parse(noise)) if usable and noise is not None else None,
        noise_removed=done,
    )


def _geolocation(root: Element) -> GeolocationGrid:
    size = "imageAnnotation/imageInformation/"
    shape = int(_number(root, f"{size}numberOfLines")), int(_number(root, f"{size}numberOfSamples"))
    points = list(root.iter("geolocationGridPoint"))
    names = ("line", "pixel", "latitude", "longitude", "height", "incidenceAngle")
    values = np.array([[_number(point, name) for name in names] for point in points]).reshape(len(points), len(names))
    lines, samples = np.unique(values[:, 0]), np.unique(values[:, 1])
    planes = np.full((4, len(lines), len(samples)), np.nan)
    planes[:, np.searchsorted(lines, values[:, 0]), np.searchsorted(samples, values[:, 1])] = values[:, 2:].T
    return GeolocationGrid(shape, lines, samples, *planes)


def _noise(root: Element) -> Noise:
    """The noise of processors since 2.90 (range and azimuth), or of those before (range alone)."""
    blocks = []
    for block in root.iter("noiseAzimuthVector"):
        # Strip maps state no part of the image: the whole is meant.
        first, last = ([int(_number(block, end + side, beyond)) for side in ("AzimuthLine", "RangeSample")] for end, beyond in _ENDS)
        azimuth = _numbers(block, "line"), _numbers(block, "noiseAzimuthLut")
        blocks.append(AzimuthBlock((first[0], last[0]), (first[1], last[1]), *azimuth))
    if root.find("noiseRangeVectorList") is not None:
        return Noise(_vectors(root, "noiseRangeVector", "noiseRangeLut"), tuple(blocks))
    return Noise(_vectors(root, "noiseVector", "noiseLut"))


def _vectors(root: Element, vector: str, values: str) -> Vectors:
    return Vectors.sorted([(int(_number(v, "line")), _numbers(v, "pixel"), _numbers(v, values)) for v in root.iter(vector)])


def _noise_doubts(channels: list[Channel], processor: float | None) -> Iterator[str]:
    unusable = [channel.polarisation.upper() for channel in channels if channel.noise is None and not channel.noise_removed]
    if not unusable:
        return
    if processor is not None and processor < SCALED_NOISE_IPF:
        why = f"its processor (IPF {processor:.2f}) annotated noise in other units; a product processed again has them right"
    else:
        why = "it has no noise annotation (annotation/calibration/noise-*.xml)"
    yield f"thermal noise is not removed from {' and '.join(unusable)}, and dark border pixels are not cut: {why}."


def _processor(manifest: Element) -> float | None:
    for node in manifest.iter():
        if node.tag.endswith("}software") and "IPF" in node.get("name", ""):
            match = re.match(r"0*(\d+\.\d+)", node.get("version", ""))
            return float(match[1]) if match else None
    return None


def _pass(root: Element) -> Pass | None:
    word = _text(root, "generalAnnotation/productInformation/pass", "").lower()
    return "ascending" if word == "ascending" else "descending" if word == "descending" else None


def _texts(root: Element) -> Mapping[str, list[str]]:
    """The texts of all elements by their name without namespace."""
    found: dict[str, list[str]] = {}
    for node in root.iter():
        found.setdefault(node.tag.rsplit("}", 1)[-1], []).append(node.text or "")
    return found


def _text(node: Element, path: str, otherwise: str | None = None) -> str:
    """The text at a path; SceneError where it is missing and nothing stands for it."""
    text = node.findtext(path, otherwise)
    if text is None or not text.strip():
        raise SceneError(f"the annotation of a Sentinel-1 product lacks <{path.rsplit('/', 1)[-1]}>; fetch the product again")
    return text.strip()


def _number(node: Element, path: str, otherwise: str | None = None) -> float:
    text = _text(node, path, otherwise)
    try:
        return float(text)
    except ValueError as error:
        raise SceneError(
            f"the annotation of a Sentinel-1 product holds {text!r} in <{path.rsplit('/', 1)[-1]}>; expected a number: fetch it again"
        ) from error


def _numbers(node: Element, path: str) -> NDArray[np.float64]:
    try:
        return np.array(_text(node, path).split(), dtype=np.float64)
    except ValueError as error:
        raise SceneError(f"the annotation of a Sentinel-1 product holds something else than numbers in <{path}>; fetch it again") from error
