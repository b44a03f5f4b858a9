"""Optical products as their portals deliver them, small: names, folders, archives, formats and metadata are those of the real ones."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

LEFT, TOP = 600000.0, 4800000.0
EXTENT = 1080.0
"""Metres along each side of every product here."""
S2_GRIDS = {10: ("B02", "B03", "B04", "B08"), 20: ("B05", "B06", "B07", "B8A", "B11", "B12"), 60: ("B01", "B09")}
JP2 = {"driver": "JP2OpenJPEG", "REVERSIBLE": "YES", "QUALITY": "100"}
GTIFF = {"driver": "GTiff"}


def side(pixel: float) -> int:
    return round(EXTENT / pixel)


def write(path: Path, values, pixel: float, *, crs="EPSG:32630", tags=None, **profile) -> Path:
    """A raster of (row, col) or (band, row, col) with the corner that all products here share."""
    values = np.asarray(values)
    values = values[None] if values.ndim == 2 else values
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
    with rasterio.open(path, "w", **shape, crs=crs, transform=from_origin(LEFT, TOP, pixel, pixel), **(profile or GTIFF)) as file:
        file.write(values)
        file.update_tags(**(tags or {}))
    return path


def zipped(folder: Path, name: str | None = None) -> Path:
    """A zip of a folder, the folder itself inside."""
    path = folder.parent / f"{name or folder.name.removesuffix('.SAFE')}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent).as_posix())
    return path


# ---------------------------------------------------------------- Sentinel-2


def sentinel_2(root: Path, *, level="2A", baseline="0510", stored=2000, quality=None, clouds=None) -> Path:
    """A SAFE folder with all bands of JPEG 2000.

    `quality` is the SCL at 20 m of Level-2A; `clouds` at Level-1C (3, row, col) at 60 m of MSK_CLASSI, or the text of MSK_CLOUDS.
    Bands at 20 and 60 m that repeat a finer one hold 1, so that it shows when they are read.
    """
    name = f"S2B_MSIL{level}_20230617T105629_N{baseline}_R094_T30TXN_20230617T134502"
    safe = root / f"{name}.SAFE"
    tile = safe / "GRANULE" / f"L{level}_T30TXN_A032804_20230617T105628"
    images, prefix = tile / "IMG_DATA", "T30TXN_20230617T105629"
    for pixel, bands in S2_GRIDS.items():
        for band in bands:
            values = np.full((side(pixel), side(pixel)), stored, "uint16")
            end = f"R{pixel}m/{prefix}_{band}_{pixel}m.jp2" if level == "2A" else f"{prefix}_{band}.jp2"
            write(images / end, values, pixel, **JP2)
    if level == "2A":
        for pixel, bands in ((20, ("B02", "B03", "B04")), (60, ("B02", "B04", "B05"))):
            for band in bands:
                coarse = np.ones((side(pixel), side(pixel)), "uint16")
                write(images / f"R{pixel}m/{prefix}_{band}_{pixel}m.jp2", coarse, pixel, **JP2)
        scl = np.full((side(20), side(20)), 4, "uint8") if quality is None else quality
        write(images / f"R20m/{prefix}_SCL_20m.jp2", scl, 20, **JP2)
        write(images / f"R60m/{prefix}_SCL_60m.jp2", np.full((side(60), side(60)), 9, "uint8"), 60, **JP2)
        write(images / f"R10m/{prefix}_AOT_10m.jp2", np.ones((side(10), side(10)), "uint16"), 10, **JP2)
    else:
        write(images / f"{prefix}_B10.jp2", np.full((side(60), side(60)), 30, "uint16"), 60, **JP2)
    write(images / ("R10m/" if level == "2A" else "") / f"{prefix}_TCI{'_10m' if level == '2A' else ''}.jp2", rgb(10), 10, **JP2)
    write(tile / "QI_DATA" / "T30TXN_20230617T105629_PVI.jp2", rgb(60), 60, **JP2)
    if isinstance(clouds, str):
        (tile / "QI_DATA" / "MSK_CLOUDS_B00.gml").write_text(clouds)
    elif int(baseline) >= 400:
        planes = np.zeros((3, side(60), side(60)), "uint8") if clouds is None else clouds
        write(tile / "QI_DATA" / "MSK_CLASSI_B00.jp2", planes, 60, **JP2)
    (tile / "MTD_TL.xml").write_text(MTD_TL.format(level=level))
    raised = "RADIO" if level == "1C" else "BOA"
    offsets = "".join(f'<{raised}_ADD_OFFSET band_id="{at}">-1000</{raised}_ADD_OFFSET>' for at in range(13) if int(baseline) >= 400)
    (safe / f"MTD_MSIL{level}.xml").write_text(
        MTD_MSI.format(level=level, name=safe.name, baseline=f"{baseline[:2]}.{baseline[2:]}", offsets=offsets)
    )
    (safe / "manifest.safe").write_text("<XFDU><metadataSection>SENTINEL-2</metadataSection></XFDU>")
    return safe


def rgb(pixel: float) -> np.ndarray:
    return np.full((3, side(pixel), side(pixel)), 90, "uint8")


def cloud_gml(members: str = "", *, crs="urn:ogc:def:crs:EPSG:8.7:32630") -> str:
    """MSK_CLOUDS_B00.gml with these features; without an envelope where there are none, as in clear scenes."""
    envelope = f'<gml:boundedBy><gml:Envelope srsName="{crs}"/></gml:boundedBy>' if members else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><eop:Mask xmlns:eop="http://www.opengis.net/eop/2.0" '
        'xmlns:gml="http://www.opengis.net/gml/3.2" gml:id="S2A_OPER_MSK_CLOUDS"><gml:name>MSK_CLOUDS pixels mask</gml:name>'
        f"{envelope}<eop:maskMembers>{members}</eop:maskMembers></eop:Mask>"
    )


def cloud_feature(kind: str, exterior, *holes) -> str:
    """One feature from rings of (x, y) in pixels of 60 m from the tile's corner."""

    def ring(side: str, points) -> str:
        places = " ".join(f"{LEFT + 60 * x} {TOP - 60 * y}" for x, y in (*points, points[0]))
        return f'<gml:{side}><gml:LinearRing><gml:posList srsDimension="2">{places}</gml:posList></gml:LinearRing></gml:{side}>'

    rings = ring("exterior", exterior) + "".join(ring("interior", hole) for hole in holes)
    return (
        f'<eop:MaskFeature gml:id="{kind}.0"><eop:maskType codeSpace="urn:gs2:S2PDGS:maskType">{kind}</eop:maskType>'
        f'<eop:extentOf><gml:Polygon gml:id="{kind}.0_Polygon">{rings}</gml:Polygon></eop:extentOf></eop:MaskFeature>'
    )


MTD_MSI = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-{level}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{level}.xsd">
<n1:General_Info><Product_Info><PRODUCT_START_TIME>2023-06-17T10:56:29.024Z</PRODUCT_START_TIME>
<PRODUCT_URI>{name}</PRODUCT_URI><PROCESSING_LEVEL>Level-{level}</PROCESSING_LEVEL>
<PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE></Product_Info><Product_Image_Characteristics>
<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>
<ADD_OFFSET_VALUES_LIST>{offsets}</ADD_OFFSET_VALUES_LIST></Product_Image_Characteristics></n1:General_Info>
</n1:Level-{level}_User_Product>
"""
MTD_TL = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-{level}_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-{level}_Tile_Metadata.xsd"><n1:Geometric_Info>
<Tile_Angles metadataLevel="Standard"><Sun_Angles_Grid><Zenith><VALUES>23.1 23.2</VALUES></Zenith></Sun_Angles_Grid>
<Mean_Sun_Angle><ZENITH_ANGLE unit="deg">23.25</ZENITH_ANGLE><AZIMUTH_ANGLE unit="deg">144.5</AZIMUTH_ANGLE></Mean_Sun_Angle>
<Mean_Viewing_Incidence_Angle_List><Mean_Viewing_Incidence_Angle bandId="0"><ZENITH_ANGLE unit="deg">7.5</ZENITH_ANGLE>
<AZIMUTH_ANGLE unit="deg">105.0</AZIMUTH_ANGLE></Mean_Viewing_Incidence_Angle></Mean_Viewing_Incidence_Angle_List></Tile_Angles>
</n1:Geometric_Info></n1:Level-{level}_Tile_ID>
"""


# ---------------------------------------------------------------- Landsat Collection 2

OLI, TM = "LC08_L{level}_199030_20230617_20230623_02_T1", "LT05_L{level}_199030_20100617_20160901_02_T1"
ETM = "LE07_L{level}_199030_20020617_20200916_02_T1"
CLEAR = 21824
"""QA_PIXEL of clear land."""
BESIDE = ("SR_QA_AEROSOL", "SR_CLOUD_QA", "SR_ATMOS_OPACITY", "ST_QA", "ST_CDIST", "ST_EMIS", "SAA", "SZA", "VAA", "VZA")


def landsat(root: Path, name: str, bands, *, stored=18639, qa_pixel=None, qa_radsat=None, mtl="txt") -> Path:
    """The tar of a Landsat product: its files without a folder, `bands` by the end of their names, all of metadata in `mtl` form."""
    folder = root / name
    shape = (side(30), side(30))
    for band in bands:
        pixel = 15 if band == "B8" else 30
        write(folder / f"{name}_{band}.TIF", np.full((side(pixel), side(pixel)), stored, "uint16"), pixel, nodata=0, **GTIFF)
    for band in BESIDE:
        write(folder / f"{name}_{band}.TIF", np.full(shape, 7, "int16"), 30)
    write(folder / f"{name}_QA_PIXEL.TIF", np.full(shape, CLEAR, "uint16") if qa_pixel is None else qa_pixel, 30, nodata=1, **GTIFF)
    write(folder / f"{name}_QA_RADSAT.TIF", np.zeros(shape, "uint16") if qa_radsat is None else qa_radsat, 30)
    (folder / f"{name}_ANG.txt").write_text("GROUP = FILE_HEADER\nEND_GROUP = FILE_HEADER\nEND\n")
    values = {"LANDSAT_PRODUCT_ID": name, "DATE_ACQUIRED": "2023-06-17", "SCENE_CENTER_TIME": "10:50:12.1234560Z"} | MTL
    if mtl == "txt":
        text = "".join(
            f'    {key} = "{value}"\n' if key.isupper() and not _number(value) else f"    {key} = {value}\n"
            for key, value in values.items()
        )
        text += '    LANDSAT_PRODUCT_ID = "LC08_L1TP_of_its_level_1"\n'
        text = f"GROUP = LANDSAT_METADATA_FILE\n  GROUP = PRODUCT_CONTENTS\n{text}END_GROUP = LANDSAT_METADATA_FILE\nEND\n"
    elif mtl == "xml":
        inner = "".join(f"<{key}>{value}</{key}>" for key, value in values.items())
        text = f"<LANDSAT_METADATA_FILE><IMAGE_ATTRIBUTES>{inner}</IMAGE_ATTRIBUTES></LANDSAT_METADATA_FILE>"
    else:
        inner = ", ".join(f'"{key}": "{value}"' for key, value in values.items())
        text = f'{{"LANDSAT_METADATA_FILE": {{"IMAGE_ATTRIBUTES": {{{inner}}}}}}}'
    (folder / f"{name}_MTL.{mtl}").write_text(text)
    path = root / f"{name}.tar"
    with tarfile.open(path, "w") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, file.name)
    return path


MTL = {
    "SUN_AZIMUTH": "-144.25", "SUN_ELEVATION": "30.0", "RADIANCE_MULT_BAND_4": "9.8329E-03", "RADIANCE_ADD_BAND_4": "-49.16451",
    "RADIANCE_MULT_BAND_10": "3.3420E-04", "RADIANCE_ADD_BAND_10": "0.10000", "REFLECTANCE_MULT_BAND_4": "2.0000E-05",
    "REFLECTANCE_ADD_BAND_4": "-0.100000", "K1_CONSTANT_BAND_10": "774.8853", "K2_CONSTANT_BAND_10": "1321.0789",
}  # fmt: skip


def _number(text: str) -> bool:
    return text.replace(".", "").replace("-", "").replace("E", "").isdigit() and text.count("-") < 2


# ---------------------------------------------------------------- HLS and PlanetScope


def hls(root: Path, part: str, bands, *, stored=1200, fmask=None) -> Path:
    """A granule's folder of HLS v2.0, with its tags."""
    name = f"HLS.{part}.T30TXN.2023168T105629.v2.0"
    tags = {"MEAN_SUN_ZENITH_ANGLE": "23.25", "MEAN_SUN_AZIMUTH_ANGLE": "144.5"}
    shape = (side(30), side(30))
    for band in bands:
        write(root / name / f"{name}.{band}.tif", np.full(shape, stored, "int16"), 30, tags=tags, nodata=-9999, **GTIFF)
    for band in ("SAA", "SZA", "VAA", "VZA"):
        write(root / name / f"{name}.{band}.tif", np.full(shape, 9, "uint16"), 30)
    write(root / name / f"{name}.Fmask.tif", np.full(shape, 64, "uint8") if fmask is None else fmask, 30, nodata=255, **GTIFF)
    return root / name


def planet(root: Path, *, eight=False, clip=False, names=True, stored=1500, planes=None) -> Path:
    """An order's folder: image, UDM2 and metadata, with the names of a clipped or a whole scene."""
    name, end = "20230617_104512_83_2416", "_clip" if clip else ""
    folder = root / "PSScene"
    bands = ("coastal_blue", "blue", "green_i", "green", "yellow", "red", "rededge", "nir") if eight else ("blue", "green", "red", "nir")
    path = folder / f"{name}_3B_AnalyticMS_SR{'_8b' if eight else ''}{end}.tif"
    write(path, np.full((len(bands), side(3), side(3)), stored, "uint16"), 3, nodata=0, photometric="minisblack", **GTIFF)
    if names:
        with rasterio.open(path, "r+") as file:
            file.descriptions = bands
    clear = np.zeros((8, side(3), side(3)), "uint8")
    clear[0] = 1
    write(folder / f"{name}_3B_udm2{end}.tif", clear if planes is None else planes, 3, photometric="minisblack", **GTIFF)
    (folder / f"{name}_metadata.json").write_text('{"id": "x", "properties": {"sun_azimuth": 144.5, "sun_elevation": 66.75}}')
    (folder / f"{name}_3B_AnalyticMS_metadata{end}.xml").write_text(
        '<ps:EarthObservation xmlns:ps="http://schemas.planet.com/ps"><opt:illuminationElevationAngle '
        'xmlns:opt="http://earth.esa.int/opt" uom="deg">6.675000e+01</opt:illuminationElevationAngle></ps:EarthObservation>'
    )
    return folder
