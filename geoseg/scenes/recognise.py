"""Which band is it: the meaning of each band of each file, and how that was found.

In this order: `--bands`, band descriptions, STAC, file names, and the sensor's own order only when the user named the sensor and the
count fits. What stays unclear is an error that lists what was found and how to say it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from geoseg.errors import BandError
from geoseg.io.file_bands import FileBand, RasterFile, stem
from geoseg.io.opening import opened
from geoseg.io.validity import alpha_is_mask
from geoseg.sensors import SENSORS, Band, Sensor

GENERIC = SENSORS["generic"]


@dataclass(frozen=True)
class Hint:
    """What a STAC Item says of one band."""

    names: tuple[str, ...] = ()
    """Names to try in this order: the band's, the asset's key, the common name."""
    scale: float | None = None
    offset: float | None = None
    unit: str | None = None
    nodata: float | None = None


@dataclass(frozen=True)
class Found:
    """One band of a file and what it means."""

    file: RasterFile
    at: FileBand
    band: Band
    because: str


Hints = Mapping[tuple[str, int], Hint]
"""(path, band number) → what STAC says."""


def spellings(files: Sequence[RasterFile], hints: Hints) -> list[str]:
    """How the provider spells the bands (`B04`, `SR_B4`, `SCL`), as far as descriptions, STAC and file names show it."""
    return [token for file in files for band in file.bands for token in [_token(file, band, hints)] if token]


def infer_sensor(tokens: Sequence[str], files: Sequence[RasterFile] = ()) -> tuple[Sensor, str]:
    """The sensor that these spellings belong to and why; `generic` where they are roles; BandError where several sensors fit."""
    if any({band.name for band in SENSORS["alphaearth"].bands} <= {band.description for band in file.bands} for file in files):
        return SENSORS["alphaearth"], "its axes A00 to A63"
    told = " ".join([file.stem for file in files] + [band.description for file in files for band in file.bands])
    levels = {match.lower() for match in re.findall(r"(?i)(?<![a-z0-9])(?:MSI)?(L1C|L2A)(?![a-z0-9])", told)}
    names = {re.sub(r"^B0*(\d)", r"B\1", token.upper()) for token in tokens}
    padded = any(re.fullmatch(r"(?i)B0\d", token) for token in tokens)
    landsat = sorted(name for name in names if name.startswith(("SR_B", "ST_B")))
    if landsat:
        if names & {"SR_B6", "ST_B10"}:
            return SENSORS["landsat-oli-c2-l2"], "SR_B6 and ST_B10 exist on Landsat 8-9 only"
        raise BandError(
            f"{', '.join(landsat)} are Landsat Level-2 bands; say which: --sensor landsat-tm-c2-l2 or --sensor landsat-etm-c2-l2."
        )
    if any(name.startswith("SUR_REFL_B") for name in names):
        return SENSORS["modis-09"], "sur_refl names"
    numbered = sorted((name for name in names if re.fullmatch(r"B\d+A?", name)), key=lambda name: (len(name.rstrip("A")), name))
    if "B8A" in names or (padded and numbered):
        if "SCL" in names:
            return SENSORS["sentinel-2-l2a"], "SCL exists at Level-2A only"
        if "B10" in names:
            return SENSORS["sentinel-2-l1c"], "B10 exists at Level-1C only"
        if len(levels) == 1:
            level = levels.pop()
            return SENSORS[f"sentinel-2-{level}"], f"{level.upper()} in its name"
        raise BandError(
            f"{', '.join(numbered)} are Sentinel-2 bands, but nothing says of which level; "
            "add --sensor sentinel-2-l1c (top of atmosphere) or --sensor sentinel-2-l2a (surface)."
        )
    if numbered:
        raise BandError(f"{', '.join(numbered)} are band names of several sensors; say which with --sensor, such as landsat-oli-c2-l1.")
    return GENERIC, ""


def check_sensor(sensor: Sensor, tokens: Sequence[str]) -> None:
    """BandError where a spelling belongs to another sensor than the one named, so that numbers such as B4 would be misread."""
    telling = {token for token in tokens if re.fullmatch(r"(?i)B0?8A|B12|S[RT]_B\d+|sur_refl_b\d\d", token)}
    strange = sorted(token for token in telling if sensor.band_named(token) is None)
    if strange and any(sensor.band_named(token) for token in tokens if token not in strange):
        raise BandError(f"{', '.join(strange)} is no band of {sensor.title} ({sensor.name}); name the sensor that has it with --sensor.")


def recognise(files: Sequence[RasterFile], sensor: Sensor, hints: Hints, *, order: bool) -> list[Found]:
    """The bands whose meaning is clear, a role perhaps twice; `order` allows the sensor's own order (the user named the sensor)."""
    found = [meaning for file in files for band in file.bands if (meaning := _meaning(file, band, sensor, hints))]
    for file in files:
        taken = {item.band.role for item in found}
        if not order or any(item.file is file for item in found):
            continue
        data = file.bands[:-1] if file.bands[-1].colour == "alpha" and sensor.in_order(len(file.bands)) is None else file.bands
        bands = sensor.in_order(len(data)) or ()
        if not taken & {band.role for band in bands}:
            found += [Found(file, at, band, f"order of {sensor.name}") for at, band in zip(data, bands, strict=bool(bands))]
    return found


def recognise_colours(file: RasterFile) -> tuple[list[Found], Sensor]:
    """Red, green and blue of a file that says so by its colour interpretation only, and the sensor that fits."""
    colours = {band.colour: band for band in file.bands}
    roles = [role for role in ("red", "green", "blue") if role in colours]
    if len(roles) < 3:
        return [], GENERIC
    sensor = SENSORS["aerial-rgb"]
    return [Found(file, colours[role], sensor.select(role)[0], f"colour interpretation {role}") for role in roles], sensor


def check_alpha(files: Sequence[RasterFile], found: Sequence[Found]) -> None:
    """A band flagged as alpha that nothing names is believed to be a mask only if it looks like one; else BandError shows both readings."""
    used = {(item.at.path, item.at.index) for item in found}
    for band in (band for file in files for band in file.bands if band.colour == "alpha" and (band.path, band.index) not in used):
        if not _is_mask(band):
            raise BandError(
                f"band {band.index} of {band.path} is flagged as alpha but does not look like a mask; it is either near infrared "
                "(add --sensor aerial-rgbn) or transparency (add --bands red,green,blue)."
            )


def _is_mask(band: FileBand) -> bool:
    with opened(band.path) as file:
        return alpha_is_mask(file, band.index)


def one_each(found: Sequence[Found]) -> list[Found]:
    """Each role once: the finest file wins; two files of the same grid are an error that names them."""
    best: dict[str, Found] = {}
    for item in found:
        other = best.get(item.band.role)
        if other is None or item.file.pixel_area < other.file.pixel_area * 0.999:
            best[item.band.role] = item
        elif abs(item.file.pixel_area / other.file.pixel_area - 1) < 0.001:
            raise BandError(
                f"two bands are {item.band.role!r}: {other.file.path} band {other.at.index} ({other.because}) and {item.file.path} "
                f"band {item.at.index} ({item.because}); give one scene at a time, or name the bands with --bands."
            )
    return [item for item in found if best[item.band.role] is item]


def name_bands(files: Sequence[RasterFile], names: Sequence[str], sensor: Sensor) -> list[Found]:
    """The bands as the user names them: one name each in order, `-` to skip; or `role=NUMBER`, `role=FILE[:NUMBER]` for some."""
    everything = [(file, band) for file in files for band in file.bands]
    if all("=" in name for name in names):
        return [_assigned(name, files, sensor) for name in names]
    opaque = [(file, band) for file, band in everything if band.colour != "alpha"]
    fitting = next((bands for bands in (everything, opaque) if len(bands) == len(names)), None)
    if fitting is None:
        raise BandError(
            f"--bands names {len(names)} bands, but there are {len(everything)}: {listing(files)}. "
            "Give one name for each in this order ('-' skips one), or role=number for some of them."
        )
    named = [(file, at, name.strip()) for (file, at), name in zip(fitting, names, strict=True) if name.strip() != "-"]
    return [Found(file, at, named_band(name, sensor), "--bands") for file, at, name in named]


def named_band(name: str, sensor: Sensor) -> Band:
    """The sensor's band with this name or role, or a role of no particular sensor; any role at all where the sensor is `generic`."""
    if (band := _own_or_common(name, sensor)) is not None:
        return band
    if sensor.name == "generic" and re.fullmatch(r"[A-Za-z][\w.-]*", name):
        return Band(name, name.lower())
    raise BandError(f"{sensor.title} has no band {name!r}; it has {', '.join(f'{band.name} ({band.role})' for band in sensor.bands)}.")


def listing(files: Sequence[RasterFile]) -> str:
    """The bands of the files, as a message lists them."""
    parts = []
    for file in files[:16]:
        bands = ", ".join(f"{band.index} {band.description or band.colour}" for band in file.bands[:16])
        parts.append(f"{file.stem} ({bands}{', …' if len(file.bands) > 16 else ''})")
    return "; ".join(parts) + ("; …" if len(files) > 16 else "")


def _meaning(file: RasterFile, at: FileBand, sensor: Sensor, hints: Hints) -> Found | None:
    """The meaning of one band from its description, STAC or its file's name; None where none of them says it."""
    if at.description and (band := _known(at.description, sensor)):
        return Found(file, at, band, f"band description {at.description!r}")
    for name in hints.get((at.path, at.index), Hint()).names:
        if band := _known(name, sensor):
            return Found(file, at, band, f"STAC {name!r}")
    if sensor.quality is not None and sensor.quality.coding == "planes" and re.search(r"(?i)udm2|MSK_CLASSI", file.stem):
        quality = sensor.select("quality")[0]
        band = replace(quality, name=f"{quality.name}_{at.index}", role=f"quality{at.index}")
        return Found(file, at, band, f"file name {file.stem!r}")
    if len(file.bands) == 1 and (band := _band_in_name(file.stem, sensor)):
        return Found(file, at, band, f"file name {file.stem!r}")
    return None


def is_known(name: str, sensor: Sensor) -> bool:
    """Whether a catalogue's name is a band of the sensor, or a role of no particular one."""
    return _known(name, sensor) is not None


def _known(name: str, sensor: Sensor) -> Band | None:
    """A band by its name, or by the last words of a longer one (`Sigma0_VV_db`, `Surface reflectance B04`)."""
    return _own_or_common(name, sensor) or _band_in_name(name, sensor)


def _own_or_common(name: str, sensor: Sensor) -> Band | None:
    """The sensor's band of this name, or one that may lie beside any sensor's: height, slope, angles, radar, thermal."""
    if (band := sensor.band_named(name)) is not None:
        return band
    common = GENERIC.band_named(name)
    return common if common is not None and common.kind != "optical" else None


def _band_in_name(name: str, sensor: Sensor) -> Band | None:
    """The band whose name ends a file's name (`T31UDQ_…_B04_10m`), or, if it has a digit, stands anywhere in it."""
    words = _words(name)
    for count in (3, 2, 1):
        if len(words) >= count and (band := _own_or_common("_".join(words[-count:]), sensor)):
            return band
    inside = [band for word in words if re.search(r"\d", word) and not word.isdigit() and (band := sensor.band_named(word))]
    return inside[0] if len({band.role for band in inside}) == 1 else None


def _words(name: str) -> list[str]:
    """The words of a file's or band's name, without a resolution or `dB` at the end."""
    words = [word for word in re.split(r"[\s_.\-]+", name) if word]
    while len(words) > 1 and re.fullmatch(r"(?i)\d+m|db", words[-1]):
        words.pop()
    return words


def _token(file: RasterFile, band: FileBand, hints: Hints) -> str | None:
    """The provider's spelling of a band, whatever the sensor: `B04`, `SR_B4`, `SCL`; None where there is none."""
    pattern = r"(?i)(?:^|[\s_.\-])((?:S[RT]_)?B\d{1,2}A?|sur_refl_b\d\d|SCL)$"
    names = [band.description, *hints.get((band.path, band.index), Hint()).names]
    for name in [*names, *([file.stem] if len(file.bands) == 1 else [])]:
        if match := re.search(pattern, "_".join(_words(name))):
            return match.group(1)
    return None


def _assigned(text: str, files: Sequence[RasterFile], sensor: Sensor) -> Found:
    """One `role=NUMBER`, `role=FILE` or `role=FILE:NUMBER`."""
    role, _, where = (part.strip() for part in text.partition("="))
    name, _, number = where.rpartition(":") if not where.isdigit() else ("", "", where)
    if not number.isdigit():
        name, number = where, "1"
    fitting = [file for file in files if not name or stem(name) == file.stem or file.path.endswith(name)]
    if len(fitting) != 1 or not 1 <= int(number) <= len(fitting[0].bands):
        raise BandError(f"--bands {text!r} names no single band; there are {listing(files)}. Write role=NUMBER, or role=FILE:NUMBER.")
    return Found(fitting[0], fitting[0].bands[int(number) - 1], named_band(role, sensor), "--bands")
