"""What torchgeo and timm publish, asked of the libraries that are installed: `torchgeo:ENUM.MEMBER`, and `timm:NAME`.

Both are read from what the libraries say of themselves: bands, statistics, address, licence. A network of torchgeo can be converted where
it is one of timm's; what is another is listed only.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from geoseg.backbones.published import Published, PublishedBand
from geoseg.errors import InputError, require
from geoseg.sensors import get_sensor

_FREE = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "cc-by-4.0": "CC-BY-4.0"}
"""Licences that ask for no more than to be named, as libraries spell them."""
_OTHER = "other"
_SSL4EO = "SSL4EO"
_SENSORS = {  # how members of torchgeo's enums begin → sensor whose band names they use, pixel size in metres
    "SENTINEL2": ("sentinel-2-l1c", 10.0),
    "SENTINEL1": ("sentinel-1-grd", 10.0),
    "LANDSAT_TM": ("landsat-tm-c2-l1", 30.0),
    "LANDSAT_ETM_TOA": ("landsat-etm-c2-l1", 30.0),
    "LANDSAT_ETM_SR": ("landsat-etm-c2-l2", 30.0),
    "LANDSAT_OLI_TIRS": ("landsat-oli-c2-l1", 30.0),
    "LANDSAT_OLI_SR": ("landsat-oli-c2-l2", 30.0),
    "LANDSAT": ("landsat-oli-c2-l1", 30.0),
    "NAIP": ("aerial-rgb", 1.0),
}
_LETTERS = {"R": "red", "G": "green", "B": "blue"}
_BYTE = 255.0
_REFLECTANCE = 1e-4
"""Reflectance of one unit of Sentinel-2's numbers."""


def torchgeo_networks() -> dict[str, Published]:
    """`torchgeo:ENUM.MEMBER` → network, of every member of torchgeo's enums of weights."""
    from torchgeo.models import api

    found: dict[str, Published] = {}
    for key, enum in api._model_weights.items():  # the one table from builders to their weights
        builder = key if isinstance(key, str) else key.__name__
        for member in enum:
            name = f"torchgeo:{enum.__name__}.{member.name}"
            if name not in found:
                found[name] = _of_torchgeo(name, builder, member)
    return found


def timm_network(name: str) -> Published:
    """timm's network of this name, with its tag (`resnet18.a1_in1k`) or without for its usual weights; InputError where it has none."""
    timm = require("timm", extra="train")
    config = timm.models.get_pretrained_cfg(name) if timm.is_model(name.partition(".")[0]) else None
    if config is None or not config.hf_hub_id:
        near = difflib.get_close_matches(name, timm.list_models(pretrained=True), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "timm.list_models(pretrained=True) shows all"
        raise InputError(f"timm publishes no weights of {name!r}; {hint}")
    licence, restriction = _licence(config.license, "timm", f"https://huggingface.co/{config.hf_hub_id}")
    bands = tuple(
        PublishedBand(role=role, name=role, unit="1", mean=mean, std=std)
        for role, mean, std in zip(("red", "green", "blue"), config.mean, config.std, strict=True)
    )
    return Published(
        name=f"timm:{name}",
        title=f"{name} (timm)",
        address=f"hf:{config.hf_hub_id}/{config.hf_hub_filename or 'model.safetensors'}",
        licence=licence,
        restriction=restriction,
        citation=str(config.paper_ids or ""),
        through="timm",
        family="timm_features",
        options={"model": name.partition(".")[0]},
        bands=bands,
        scale=_BYTE,
        pixel_size_m=1.0,
        image=config.input_size[-1],
        status="listed",
    )


def timm_names(word: str) -> list[str]:
    """`timm:NAME` of timm's published networks whose name holds this word."""
    return [f"timm:{name}" for name in require("timm", extra="train").list_models(f"*{word}*", pretrained=True)]


def library_network(name: str) -> Published:
    """The network of this name, `torchgeo:…` or `timm:…`; InputError with the nearest known for another."""
    library, _, rest = name.partition(":")
    if library == "timm":
        return timm_network(rest)
    require("torchgeo.models", extra="train")
    known = torchgeo_networks()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else "geoseg models list --all shows them"
        raise InputError(f"torchgeo publishes no {rest!r}; {hint}")
    return known[name]


def _of_torchgeo(name: str, builder: str, member: Any) -> Published:
    meta, sensor = member.meta, next((found for start, found in _SENSORS.items() if member.name.startswith(start)), None)
    names, chain = [str(band) for band in meta.get("bands") or ()], list(_normalisations(member.transforms))
    is_timm = require("timm", extra="train").is_model(builder)
    known = is_timm and sensor is not None and names and chain and len(names) == meta.get("in_chans")
    bands = tuple(_bands(sensor[0], names, chain)) if known and sensor else ()
    if len({band.role for band in bands}) < len(bands):
        bands = ()
    licence, restriction = _licence(meta.get("license"), "torchgeo", str(meta.get("publication", "")))
    if not meta.get("license") and str(meta.get("dataset", "")).startswith(_SSL4EO):
        licence, restriction = "CC-BY-4.0", ""
    options: dict[str, Any] = {"model": builder, "learned": [band.role for band in bands]}
    if "img_size" in meta:
        options["img_size"] = meta["img_size"]
    return Published(
        name=name,
        title=f"{builder} on {meta.get('dataset') or 'unnamed data'} (torchgeo)",
        address=str(member.url),
        licence=licence,
        restriction=restriction,
        citation=str(meta.get("publication", "")),
        through="torchgeo",
        family="timm_features" if bands else None,
        options=options if bands else {},
        bands=bands,
        pixel_size_m=None if sensor is None else sensor[1],
        status="layout test only" if bands else "listed",
    )


def _bands(sensor: str, names: Sequence[str], chain: Sequence[tuple[list[float], list[float]]]) -> Iterator[PublishedBand]:
    """Each band with the mean and deviation by which all of torchgeo's steps together normalise it.

    Steps that divide by some 10 000 are for Sentinel-2's numbers, which are reflectance x 10 000; those by 255 for numbers 0 … 255
    without a unit; those of radar for decibels.
    """
    radar = sensor.startswith("sentinel-1")
    for place, name in enumerate(names):
        mean, std = 0.0, 1.0
        for means, deviations in reversed(chain):  # the last step first: x = m1 + s1 (m2 + s2 (…))
            own_mean, own_std = (values[place if len(values) > 1 else 0] for values in (means, deviations))
            mean, std = own_mean + own_std * mean, own_std * std
        known = get_sensor(sensor).band_named(name)
        role = _LETTERS.get(name) or (known.role if known else name.lower())
        wavelength = known.wavelength_um if known else None
        words: dict[str, Any] = {"role": role, "name": name, "mean": mean, "std": std}
        if radar:
            yield PublishedBand(**words, unit="dB")
        elif known and sensor.startswith("sentinel-2") and (std > _BYTE or role == "cirrus"):  # which is dark, so that it varies little
            yield PublishedBand(**words, wavelength_um=wavelength, scale=_REFLECTANCE)
        else:
            yield PublishedBand(**words, wavelength_um=wavelength, unit="1")


def _normalisations(transforms: Any) -> Iterator[tuple[list[float], list[float]]]:
    """Means and deviations of each step (x - mean) / deviation, in order."""
    torch = require("torch", extra="train")
    for module in transforms.modules() if hasattr(transforms, "modules") else ():
        if type(module).__name__ == "Normalize":
            stated = getattr(module, "flags", None) or {"mean": module.mean, "std": module.std}
            mean, std = ([float(f"{x:.7g}") for x in torch.as_tensor(stated[key]).flatten().tolist()] for key in ("mean", "std"))
            yield mean, std


def _licence(stated: str | None, library: str, where: str) -> tuple[str, str]:
    """The licence's identifier, and what has to be said before it is accepted; nothing where it asks only to be named."""
    if stated and stated.lower() in _FREE:
        return _FREE[stated.lower()], ""
    if not stated:
        return _OTHER, f"{library} states no licence for these weights; look for it at {where}"
    licence = "-".join(stated.split())
    if "-nc" in stated.lower() or "non-commercial" in stated.lower():
        return licence, "non-commercial use only"
    return licence, f"read what it allows at {where}"
