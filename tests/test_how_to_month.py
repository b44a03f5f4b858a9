"""The page `a-cloud-free-month.md` does what it says, on products laid out as they are downloaded."""

from __future__ import annotations

import json

import numpy as np
import rasterio
from how_to import run_page
from packages import per_pixel_package
from rasterio.transform import from_origin

from geoseg.legend import Legend
from geoseg.preprocess.prepare import BandNeed, Channel, Preparation

PAGE = "a-cloud-free-month.md"
PRODUCTS = (
    "S2A_MSIL2A_20210503T103021_N0300_R108_T32TPS_20210503T140000.SAFE",
    "S2B_MSIL2A_20210508T103019_N0500_R108_T32TPS_20210508T140000.SAFE",
    "S2A_MSIL2A_20210513T103021_N0500_R108_T32TPS_20210513T140000.SAFE",
)
"""Two of them with the offset of baseline 04.00."""
SIDE = 120
CLOUD, SHADOW, CLEAR = 9, 3, 4
REFLECTANCE = {"water": (0.03, 0.01), "soil": (0.25, 0.30), "crops": (0.04, 0.45)}
"""Red and near infrared of each class."""

METADATA = """<?xml version="1.0" encoding="UTF-8"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
  <n1:General_Info><Product_Info><PRODUCT_START_TIME>{time}</PRODUCT_START_TIME><PRODUCT_URI>{name}</PRODUCT_URI>
  <PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL><PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE></Product_Info>
  <Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
  </QUANTIFICATION_VALUES_LIST>{offsets}</Product_Image_Characteristics></n1:General_Info></n1:Level-2A_User_Product>
"""


def truth():
    """(row, col) class indices: stripes of water, soil and crops."""
    return np.repeat(np.arange(3), SIDE // 3)[:, None] * np.ones((1, SIDE), int)


def lay_out_product(folder, name, cloudy):
    """A SAFE folder: JPEG 2000 bands at 10 m, SCL at 20 m, metadata; `cloudy` (row, col) is bright cloud, marked in SCL."""
    day, baseline = name[11:26], f"{name[28:30]}.{name[30:32]}"
    raised = 1000 if baseline >= "04.00" else 0
    image = folder / name / "GRANULE" / f"L2A_T32TPS_A030000_{day}" / "IMG_DATA"
    red, nir = (np.choose(truth(), [values[band] for values in REFLECTANCE.values()]) for band in (0, 1))
    planes = {f"R10m/T32TPS_{day}_B04_10m": red, f"R10m/T32TPS_{day}_B08_10m": nir}
    for path, reflectance in planes.items():
        write(image / f"{path}.jp2", np.where(cloudy, 0.9, reflectance) * 10000 + raised, 10, "uint16")
    write(image / f"R20m/T32TPS_{day}_SCL_20m.jp2", np.where(cloudy[::2, ::2], CLOUD, CLEAR), 20, "uint8")
    offsets = "".join(f'<BOA_ADD_OFFSET band_id="{band}">-1000</BOA_ADD_OFFSET>' for band in range(13)) if raised else ""
    listed = f"<BOA_ADD_OFFSET_VALUES_LIST>{offsets}</BOA_ADD_OFFSET_VALUES_LIST>" if raised else ""
    time = f"{day[:4]}-{day[4:6]}-{day[6:8]}T{day[9:11]}:{day[11:13]}:{day[13:15]}.024Z"
    (folder / name / "MTD_MSIL2A.xml").write_text(METADATA.format(time=time, name=name, baseline=baseline, offsets=listed))


def write(path, values, pixel, dtype):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.rint(values).astype(dtype)
    profile = {"count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": dtype, "crs": "EPSG:32632"}
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"}
    with rasterio.open(path, "w", driver="JP2OpenJPEG", transform=from_origin(6e5, 5e6, pixel, pixel), **profile, **lossless) as file:
        file.write(values, 1)


def land_cover_package(folder):
    """The class whose red and near infrared are nearest: a linear rule, since |x - c|² differs by 2 x c - c² alone."""
    centres = np.array(list(REFLECTANCE.values()))
    preparation = Preparation(
        bands=tuple(BandNeed(role=role, unit="reflectance") for role in ("red", "nir")),
        channels=tuple(Channel(name=role) for role in ("red", "nir")),
    )
    legend = Legend.from_names(list(REFLECTANCE))
    changes = {"preparation": preparation, "sensors": ("sentinel-2-l2a",), "title": "Land cover"}
    per_pixel_package(folder, ("red", "nir"), 200 * centres, -100 * (centres**2).sum(axis=1), legend=legend, **changes)
    return legend


def test_the_page_makes_a_land_cover_map_of_a_cloudy_month(tmp_path, geoseg, monkeypatch):
    rng = np.random.default_rng(0)
    never = np.zeros((SIDE, SIDE), bool)
    never[:6, :6] = True
    for product in PRODUCTS:
        blotches = rng.random((6, 6)) < 0.3
        lay_out_product(tmp_path, product, np.kron(blotches, np.ones((20, 20), bool)) | never)
    legend = land_cover_package(tmp_path / "land_cover")
    info, composite, predict = run_page(PAGE, tmp_path, geoseg, monkeypatch)
    assert "fits: Land cover" in info.out
    assert "2021-05: 3 scenes" in composite.out
    assert "warning" not in composite.out + predict.out
    with rasterio.open(tmp_path / "map" / "composite_2021-05_classes.tif") as file:
        classes = file.read(1)
    seen = classes != legend.nodata
    np.testing.assert_array_equal(classes[seen], np.array(legend.codes)[truth()][seen])
    assert not seen[:6, :6].any()
    assert seen.mean() > 0.9
    item = json.loads((tmp_path / "month" / "composite_2021-05.json").read_text(encoding="utf-8"))
    assert [given["id"] for given in item["properties"]["geoseg:composite"]["inputs"]] == [name.removesuffix(".SAFE") for name in PRODUCTS]
