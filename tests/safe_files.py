"""Small Sentinel-1 GRD products in the exact layout of the format, with numbers, tables and places that the test chooses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import cos, radians, sin
from pathlib import Path

import numpy as np
import pyproj
import rasterio
from rasterio.control import GroundControlPoint

START = "2021-04-01T05:26:23.794457"
NAME = "S1B_{mode}_GRDH_1S{kind}_20210401T052623_20210401T052648_026269_032297_ECC8.SAFE"
STEM = "s1b-{mode}-grd-{polarisation}-20210401t052623-20210401t052648-026269-032297-{number:03d}"


@dataclass(frozen=True)
class Ground:
    """Where line and sample lie: straight lines in a CRS, from the outer corner of the first sample of the first line."""

    crs: str = "EPSG:32632"
    x: float = 500_000.0
    y: float = 5_200_000.0
    turned: float = 0.0
    """Degrees by which the image's lines are turned anticlockwise; at 0 they run west to east, the first one in the north."""
    bend_m: float = 0.0
    """By how much the middle line of the image is moved along itself, as a track that is no straight line does."""

    def at(self, line, sample, shape, spacing):
        """x and y of places in the image, counted from 0 at the centre of the first sample."""
        bend = self.bend_m * (1 - (2 * (np.asarray(line) + 0.5) / shape[0] - 1) ** 2)
        across, down = (np.asarray(sample) + 0.5) * spacing + bend, (np.asarray(line) + 0.5) * spacing
        turn = radians(self.turned)
        return self.x + across * cos(turn) + down * sin(turn), self.y + across * sin(turn) - down * cos(turn)


@dataclass(frozen=True)
class Grd:
    """What a product shall hold."""

    shape: tuple[int, int] = (90, 110)
    mode: str = "IW"
    polarisations: tuple[str, ...] = ("vv", "vh")
    spacing: float = 10.0
    ground: Ground = Ground()
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Polarisation → digital numbers; random where there are none."""
    gain: Callable = lambda line, sample: 300 + 0.4 * sample + 0.1 * line
    """`sigmaNought` at a line and its samples."""
    noise: Callable | None = lambda line, sample: 900 + 2 * sample + line
    """Noise at a line and its samples; None leaves the noise files out."""
    noise_layout: str = "2.9"
    """`2.9`: range and azimuth vectors; `old`: one list; `2.9` with `blocks` empty has no azimuth vectors."""
    blocks: tuple[tuple[int, int, int, int, tuple[int, ...], tuple[float, ...]], ...] = ()
    """First and last line, first and last sample, lines and factors of each azimuth vector."""
    height: Callable = lambda line, sample: 50 + 0 * sample
    incidence: Callable = lambda line, sample: 30.1 + 16 * sample / 110
    grid_steps: tuple[int, int] = (20, 25)
    """Lines and samples from point to point of the geolocation grid."""
    processor: str = "003.31"
    orbit_pass: str = "Descending"
    product_type: str = "GRD"
    noise_removed: bool = False

    def digital_numbers(self, polarisation: str) -> np.ndarray:
        if polarisation in self.numbers:
            return np.asarray(self.numbers[polarisation], dtype=np.uint16)
        seed = ("vv", "vh", "hh", "hv").index(polarisation)
        return np.random.default_rng(seed).integers(100, 900, self.shape).astype(np.uint16)

    def points(self, steps: tuple[int, int]) -> tuple[list[int], list[int]]:
        lines, samples = ([*range(0, size - 1 - step // 2, step), size - 1] for size, step in zip(self.shape, steps, strict=True))
        return lines, samples


def write_safe(folder: Path, grd: Grd = Grd(), *, zipped: bool = False) -> Path:
    """The product's SAFE folder, or its zip, in `folder`."""
    kind = {("vv", "vh"): "DV", ("vv",): "SV", ("hh", "hv"): "DH", ("hh",): "SH"}[grd.polarisations]
    safe = folder / NAME.format(mode=grd.mode, kind=kind).replace("GRDH", f"{grd.product_type}{'H' if grd.product_type == 'GRD' else '_'}")
    for inside in ("annotation/calibration", "measurement", "preview", "support"):
        (safe / inside).mkdir(parents=True)
    files = []
    for number, polarisation in enumerate(grd.polarisations, 1):
        stem = STEM.format(mode=grd.mode.lower(), polarisation=polarisation, number=number)
        header = _header(grd, polarisation, number)
        (safe / f"annotation/{stem}.xml").write_text(_annotation(grd, header), encoding="utf-8")
        (safe / f"annotation/calibration/calibration-{stem}.xml").write_text(_calibration(grd, header), encoding="utf-8")
        files += [("s1Level1ProductSchema", f"./annotation/{stem}.xml"), ("s1Level1MeasurementSchema", f"./measurement/{stem}.tiff")]
        files += [("s1Level1CalibrationSchema", f"./annotation/calibration/calibration-{stem}.xml")]
        if grd.noise is not None:
            (safe / f"annotation/calibration/noise-{stem}.xml").write_text(_noise(grd, header), encoding="utf-8")
            files += [("s1Level1NoiseSchema", f"./annotation/calibration/noise-{stem}.xml")]
        _write_image(safe / f"measurement/{stem}.tiff", grd, polarisation)
    (safe / "manifest.safe").write_text(_manifest(grd, files), encoding="utf-8")
    if not zipped:
        return safe
    made = shutil.make_archive(str(folder / safe.stem), "zip", folder, safe.name)
    shutil.rmtree(safe)
    return Path(made)


def measurement(safe: Path, polarisation: str) -> Path:
    return next(safe.glob(f"measurement/*-{polarisation}-*.tiff"))


def _write_image(path: Path, grd: Grd, polarisation: str) -> None:
    """As ESA writes it: one line a strip, ground control points, no geotransform."""
    to_degrees = pyproj.Transformer.from_crs(grd.ground.crs, "EPSG:4326", always_xy=True)
    points = []
    for line in grd.points(grd.grid_steps)[0]:
        for sample in grd.points(grd.grid_steps)[1]:
            lon, lat = to_degrees.transform(*grd.ground.at(line, sample, grd.shape, grd.spacing))
            points.append(GroundControlPoint(line, sample, lon, lat, float(grd.height(line, sample))))
    profile = {"count": 1, "height": grd.shape[0], "width": grd.shape[1], "dtype": "uint16", "blockysize": 1}
    with rasterio.open(path, "w", driver="GTiff", gcps=points, crs="EPSG:4326", **profile) as file:
        file.write(grd.digital_numbers(polarisation), 1)


def _header(grd: Grd, polarisation: str, number: int) -> str:
    return f"""<adsHeader><missionId>S1B</missionId><productType>{grd.product_type}</productType>
<polarisation>{polarisation.upper()}</polarisation><mode>{grd.mode}</mode><swath>{grd.mode}</swath><startTime>{START}</startTime>
<stopTime>2021-04-01T05:26:48.793373</stopTime><absoluteOrbitNumber>26269</absoluteOrbitNumber>
<missionDataTakeId>205463</missionDataTakeId><imageNumber>{number:03d}</imageNumber></adsHeader>"""


def _annotation(grd: Grd, header: str) -> str:
    to_degrees = pyproj.Transformer.from_crs(grd.ground.crs, "EPSG:4326", always_xy=True)
    points = []
    lines, samples = grd.points(grd.grid_steps)
    for line in lines:
        for sample in samples:
            lon, lat = to_degrees.transform(*grd.ground.at(line, sample, grd.shape, grd.spacing))
            points.append(
                f"""<geolocationGridPoint><azimuthTime>{_time(line)}</azimuthTime>
<slantRangeTime>{5.3e-3 + 4e-8 * sample:.15e}</slantRangeTime>
<line>{line}</line><pixel>{sample}</pixel><latitude>{lat:.15e}</latitude><longitude>{lon:.15e}</longitude>
<height>{float(grd.height(line, sample)):.15e}</height><incidenceAngle>{float(grd.incidence(line, sample)):.15e}</incidenceAngle>
<elevationAngle>2.7e+01</elevationAngle></geolocationGridPoint>"""
            )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<product>{header}<generalAnnotation><productInformation><pass>{grd.orbit_pass}</pass><timelinessCategory>NRT-3h</timelinessCategory>
<platformHeading>-1.656512198343102e+02</platformHeading><projection>Ground Range</projection>
<rangeSamplingRate>6.434523812571428e+07</rangeSamplingRate><radarFrequency>5.405000454334350e+09</radarFrequency>
<azimuthSteeringRate>1.590368784000000e+00</azimuthSteeringRate></productInformation></generalAnnotation>
<imageAnnotation><imageInformation><productFirstLineUtcTime>{START}</productFirstLineUtcTime>
<productLastLineUtcTime>{_time(grd.shape[0] - 1)}</productLastLineUtcTime><ascendingNodeTime>2021-04-01T04:49:55.637823</ascendingNodeTime>
<productComposition>Slice</productComposition><slantRangeTime>5.343e-03</slantRangeTime><pixelValue>Detected</pixelValue>
<outputPixels>16 bit Unsigned Integer</outputPixels><rangePixelSpacing>{grd.spacing:e}</rangePixelSpacing>
<azimuthPixelSpacing>{grd.spacing:e}</azimuthPixelSpacing><azimuthTimeInterval>1.5e-03</azimuthTimeInterval>
<azimuthFrequency>1.7e+03</azimuthFrequency><numberOfSamples>{grd.shape[1]}</numberOfSamples><numberOfLines>{grd.shape[0]}</numberOfLines>
<zeroDopMinusAcqTime>0.0</zeroDopMinusAcqTime><incidenceAngleMidSwath>3.8e+01</incidenceAngleMidSwath></imageInformation>
<processingInformation><thermalNoiseCorrectionPerformed>{str(grd.noise_removed).lower()}</thermalNoiseCorrectionPerformed>
</processingInformation></imageAnnotation>
<swathTiming><linesPerBurst>0</linesPerBurst><samplesPerBurst>0</samplesPerBurst><burstList count="0"/></swathTiming>
<geolocationGrid><geolocationGridPointList count="{len(points)}">{"".join(points)}</geolocationGridPointList></geolocationGrid></product>"""


def _calibration(grd: Grd, header: str) -> str:
    vectors = []
    lines, samples = grd.points((30, 40))
    for line in lines:
        gains = grd.gain(line, np.array(samples, dtype=float))
        tables = "".join(
            _table(name, gains * factor) for name, factor in (("sigmaNought", 1), ("betaNought", 1.1), ("gamma", 0.9), ("dn", 2))
        )
        vectors.append(
            f"<calibrationVector><azimuthTime>{_time(line)}</azimuthTime><line>{line}</line>{_table('pixel', samples, 'd')}{tables}"
            "</calibrationVector>"
        )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<calibration>{header}<calibrationInformation><absoluteCalibrationConstant>1.000000e+00</absoluteCalibrationConstant>
</calibrationInformation><calibrationVectorList count="{len(vectors)}">{"".join(vectors)}</calibrationVectorList></calibration>"""


def _noise(grd: Grd, header: str) -> str:
    kind = "Range" if grd.noise_layout == "2.9" else ""
    vectors = []
    lines, samples = grd.points((35, 45))
    for line in lines:
        lut = _table(f"noise{kind}Lut", grd.noise(line, np.array(samples, dtype=float)))
        place = f"<azimuthTime>{_time(line)}</azimuthTime><line>{line}</line>{_table('pixel', samples, 'd')}"
        vectors.append(f"<noise{kind}Vector>{place}{lut}</noise{kind}Vector>")
    azimuth = ""
    if kind:
        blocks = [
            f"<noiseAzimuthVector><swath>{grd.mode}1</swath><firstAzimuthLine>{top}</firstAzimuthLine><firstRangeSample>{left}</firstRangeSample>"
            f"<lastAzimuthLine>{bottom}</lastAzimuthLine><lastRangeSample>{right}</lastRangeSample>{_table('line', at, 'd')}"
            f"{_table('noiseAzimuthLut', factors)}</noiseAzimuthVector>"
            for top, bottom, left, right, at, factors in grd.blocks
        ]
        azimuth = f'<noiseAzimuthVectorList count="{len(blocks)}">{"".join(blocks)}</noiseAzimuthVectorList>'
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<noise>{header}<noise{kind}VectorList count="{len(vectors)}">{"".join(vectors)}</noise{kind}VectorList>{azimuth}</noise>"""


def _manifest(grd: Grd, files: list[tuple[str, str]]) -> str:
    objects = "".join(
        f'<dataObject ID="file{number}" repID="{kind}"><byteStream mimeType="text/xml"><fileLocation locatorType="URL" href="{href}"/>'
        "</byteStream></dataObject>"
        for number, (kind, href) in enumerate(files)
    )
    sent = "".join(
        f"<s1sarl1:transmitterReceiverPolarisation>{word.upper()}</s1sarl1:transmitterReceiverPolarisation>" for word in grd.polarisations
    )
    level = "http://www.esa.int/safe/sentinel-1.0/sentinel-1"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1" xmlns:safe="http://www.esa.int/safe/sentinel-1.0" xmlns:s1="{level}"
xmlns:s1sarl1="{level}/sar/level-1"><metadataSection><metadataObject ID="processing"><metadataWrap><xmlData>
<safe:processing name="GRD Post Processing"><safe:facility name="Copernicus S1 Core Ground Segment">
<safe:software name="Sentinel-1 IPF" version="{grd.processor}"/></safe:facility></safe:processing></xmlData></metadataWrap></metadataObject>
<metadataObject ID="platform"><metadataWrap><xmlData><safe:platform><safe:familyName>SENTINEL-1</safe:familyName>
<safe:number>B</safe:number><safe:instrument><safe:extension><s1sarl1:instrumentMode><s1sarl1:mode>{grd.mode}</s1sarl1:mode>
<s1sarl1:swath>{grd.mode}</s1sarl1:swath></s1sarl1:instrumentMode></safe:extension></safe:instrument></safe:platform></xmlData></metadataWrap>
</metadataObject><metadataObject ID="measurementOrbitReference"><metadataWrap><xmlData><safe:orbitReference>
<safe:orbitNumber type="start">26269</safe:orbitNumber><safe:orbitNumber type="stop">26269</safe:orbitNumber>
<safe:relativeOrbitNumber type="start">168</safe:relativeOrbitNumber><safe:relativeOrbitNumber type="stop">168</safe:relativeOrbitNumber>
<safe:extension><s1:orbitProperties><s1:pass>{grd.orbit_pass.upper()}</s1:pass>
<s1:ascendingNodeTime>2021-04-01T04:49:55.637823</s1:ascendingNodeTime></s1:orbitProperties></safe:extension></safe:orbitReference></xmlData>
</metadataWrap></metadataObject><metadataObject ID="generalProductInformation"><metadataWrap><xmlData><s1sarl1:standAloneProductInformation>
<s1sarl1:missionDataTakeID>205463</s1sarl1:missionDataTakeID>{sent}<s1sarl1:productType>{grd.product_type}</s1sarl1:productType>
</s1sarl1:standAloneProductInformation></xmlData></metadataWrap></metadataObject>
<metadataObject ID="acquisitionPeriod"><metadataWrap><xmlData>
<safe:acquisitionPeriod><safe:startTime>{START}</safe:startTime><safe:stopTime>2021-04-01T05:26:48.793373</safe:stopTime>
</safe:acquisitionPeriod></xmlData></metadataWrap></metadataObject></metadataSection>
<dataObjectSection>{objects}</dataObjectSection></xfdu:XFDU>"""


def _table(name: str, values, code: str = ".15e") -> str:
    return f'<{name} count="{len(values)}">{" ".join(format(value, code) for value in values)}</{name}>'


def _time(line: int) -> str:
    return f"2021-04-01T05:26:{23.794457 + 1.5e-3 * line:09.6f}"
