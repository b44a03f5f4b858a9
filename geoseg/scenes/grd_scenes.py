"""Sentinel-1 GRD products as scenes: their layers, what these mean, and what the user should know of their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from geoseg.errors import InputError, SceneError
from geoseg.io.opening import opened
from geoseg.radar.annotation import Channel, GrdProduct, read_grd
from geoseg.radar.geolocation import GeolocationGrid
from geoseg.radar.ground_range import Backscatter, Image, IncidenceAngle
from geoseg.radar.safe import Safe
from geoseg.scene import Layer, Scene
from geoseg.scenes.radiometry import Override
from geoseg.sensors import SENSORS, Sensor

FLAT_M = 200.0
"""With more relief than this a terrain-corrected product is recommended."""


def open_grd(safe: Safe) -> Scene:
    """The scene of a GRD product: sigma0 in linear power for each polarisation, and the incidence angle in degrees."""
    product = read_grd(safe)
    sensor = SENSORS["sentinel-1-grd"]
    image = Image(product)
    layers = []
    for band in sensor.bands:
        if band.role == "incidence_angle":
            annotation = product.channels[0].annotation
            layers.append(
                Layer(replace(band, gsd_m=product.spacing_m), annotation, 1, "geolocation grid", IncidenceAngle(product.grid, image))
            )
        for channel in product.channels:
            if channel.polarisation == band.role:
                _check_size(channel, product)
                clean = channel.noise is not None or channel.noise_removed
                calibrated = replace(band, gsd_m=product.spacing_m, unit="linear power", convention="sigma0", noise_removed=clean)
                layers.append(Layer(calibrated, channel.image, 1, "annotation; calibrated to sigma0", Backscatter(channel, image)))
    year = product.time.year if product.time else ""
    return Scene(
        name=product.name,
        source=product.given,
        sensor=sensor,
        layers=tuple(layers),
        time=product.time,
        product_id=product.name,
        attribution=sensor.attribution.format(year=year).strip(),
        warnings=(*product.warnings, *_relief(product.grid)),
        orbit_pass=product.orbit_pass,
    )


def check_words(safe: Safe, named: Sensor | None, bands: Sequence[str] | None, override: Override) -> None:
    """Raise InputError where the user says something of a product that says it all of itself."""
    if named is not None and named.name != "sentinel-1-grd":
        raise InputError(f"{safe.given} is a Sentinel-1 product, but --sensor says {named.name}; leave --sensor out")
    words = {"--bands": bands} | {f"--{name}": value for name, value in vars(override).items()}
    if said := [word for word, value in words.items() if value is not None]:
        raise InputError(
            f"{' and '.join(said)} cannot be said of {safe.given}: its bands are named in it, and are calibrated to sigma0 in linear power "
            f"while they are read; leave {'it' if len(said) == 1 else 'them'} out"
        )


def _check_size(channel: Channel, product: GrdProduct) -> None:
    with opened(channel.image) as file:
        if file.shape != product.grid.shape or file.count != 1 or file.dtypes[0] != "uint16":
            expected = " x ".join(map(str, product.grid.shape))
            raise SceneError(
                f"{channel.image} holds {file.count} band of {file.height} x {file.width} {file.dtypes[0]}; its annotation says {expected} "
                "uint16: it is not the image as ESA delivers it; fetch the product again"
            )


def _relief(grid: GeolocationGrid) -> Iterator[str]:
    lowest, highest = float(grid.height.min()), float(grid.height.max())
    near, far = (1 / np.tan(np.radians(angle)) for angle in (grid.incidence.min(), grid.incidence.max()))
    yield (
        "placed by its geolocation grid and not by a terrain model: relief shifts pixels by about its height divided by the tangent of "
        f"the incidence angle, here by {far:.1f} to {near:.1f} m for each metre (heights in the grid: {lowest:.0f} to {highest:.0f} m)."
    )
    if highest - lowest > FLAT_M:
        yield (
            f"the ground's heights span {highest - lowest:.0f} m, so places may be off by about "
            f"{(highest - lowest) / 2 * (near + far) / 2:.0f} m and slopes are brighter or darker than they are: take a terrain-corrected "
            "product instead, such as OPERA RTC-S1 or HyP3 RTC."
        )
