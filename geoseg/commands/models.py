"""`geoseg models`: what a model package or an encoder is, and published networks as either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

if TYPE_CHECKING:
    from geoseg.backbones.published import Published
    from geoseg.models.encoders import Encoder

CSMASK = ("csmask-l1c", "csmask-l2a")
"""Networks for clouds that `geoseg models fetch` makes model packages of."""
_ROW = "{:30} {:19} {:24} {:>6} {:>8}  {}"
_NOT_AS_THEY_ARE = ("missing", "misshapen", "unexpected", "reshaped")
"""What may become of a tensor, but that it is taken as it is."""
_MOST_KEYS = 12
"""Of each kind that are named."""
_FEW_BANDS = 6
"""That are named in a line; of more their number."""


@click.group()
def models() -> None:
    """Model packages and encoders: what one is, and published networks as either."""


@models.command("list", epilog="Example: `geoseg models list prithvi`")
@click.argument("word", required=False)
@click.option("--all", "everything", is_flag=True, help="Also what torchgeo lists, and with WORD what timm does.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on standard output.")
def list_models(word: str | None, everything: bool, as_json: bool) -> None:
    """List published networks, all or those with WORD in name or title: what was tried, licence, pixel size, download, bands.

    An asterisk marks a licence that has to be accepted. What was tried: the published file itself through to its features ("run on real
    weights"), made-up tensors under the published names ("layout test only"), or nothing ("listed").
    """
    from geoseg.backbones.published import published_models

    networks = dict(published_models())
    if everything:
        from geoseg.backbones import published_libraries as libraries
        from geoseg.errors import require

        require("torchgeo.models", extra="train")
        networks |= libraries.torchgeo_networks()
        networks |= {name: libraries.timm_network(name.partition(":")[2]) for name in (libraries.timm_names(word) if word else ())}
    chosen = [one for one in networks.values() if word is None or word.lower() in f"{one.name} {one.title}".lower()]
    if chosen and not as_json:
        click.echo(_ROW.format("network", "what was tried", "licence", "pixel", "download", "bands"))
    for one in chosen:
        click.echo(_as_line(one.model_dump(mode="json")) if as_json else _line(one))
    if not chosen and not as_json:
        click.echo(
            f"no published network has {word!r} in its name; {'' if everything else 'try --all, or '}list all without a word", err=True
        )
    elif not everything and not as_json:
        click.echo(
            "csmask-l1c, csmask-l2a: model packages for clouds; --all shows what torchgeo lists, --all WORD what timm does", err=True
        )


@models.command("info", epilog="Example: `geoseg models info my_model`")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="A published network, or an encoder, as one JSON object.")
def model_info(name: str, as_json: bool) -> None:
    """Print the card of a model package, of an encoder (folder or .zip), or of a published network by its name.

    Bands, classes, licence, what it was trained and tested on.
    """
    from geoseg.backbones.published import get_published
    from geoseg.models.encoders import Encoder, is_encoder

    if Path(name).exists() and is_encoder(name):
        encoder = Encoder.open(name)
        click.echo(_as_line(encoder.model_dump(mode="json", exclude={"path"})) if as_json else _encoder_card(encoder))
    elif Path(name).exists() or name.endswith(".zip") or "/" in name:
        from geoseg.models.package import CARD, ModelPackage

        click.echo(ModelPackage.open(name).read(CARD).decode())
    else:
        network = get_published(name)
        click.echo(_as_line(network.model_dump(mode="json")) if as_json else _card(network))


@models.command("fetch", epilog="Example: `geoseg models fetch efficientnet-lite0 -o encoder`")
@click.argument("name")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The new encoder or model package: a folder, or a .zip.")
@click.option("--file", type=click.Path(path_type=Path), help="The weights where they are on this machine; nothing is then downloaded.")
@click.option("--bands", help="Only these bands, by role and in this order, such as red,green,nir; all that it reads, if not given.")
@click.option(
    "-s", "--set", "assigned", multiple=True, metavar="KEY=VALUE", help="An option of its network, such as -s month=5 of Galileo."
)
@click.option("--accept-licence", is_flag=True, help="You accept what its licence forbids; `geoseg models info NAME` says it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def fetch_model(
    name: str, out: Path, file: Path | None, bands: str | None, assigned: tuple[str, ...], accept_licence: bool, as_json: bool
) -> None:
    """Fetch a published network (needs the extra `train`) and write it as an encoder.

    The encoder is what `geoseg train -s pretrained=ENCODER` and `geoseg embed` start from. Every tensor of the file is told by name; fewer
    than nine in ten of the network's own are refused. `torchgeo:ENUM.MEMBER` and `timm:NAME` name what those libraries list. A download
    that was broken off goes on where it stopped.

    csmask-l1c and csmask-l2a become model packages: cloud and cloud shadow for --cloud-model, from six bands of Sentinel-2 or Landsat at
    the top of the atmosphere or at the surface (DLR's ukis-csmask, Apache-2.0, 170 MB once).
    """
    if name in CSMASK:
        _fetch_csmask(name, out, given=[word for word, value in (("--file", file), ("--bands", bands)) if value is not None])
        return
    from geoseg.backbones.published import get_published
    from geoseg.commands._learning import assignments
    from geoseg.console import progress_bar
    from geoseg.models.published_encoder import fetch_published

    network = get_published(name)
    network = network.model_copy(update={"options": {**network.options, **assignments(assigned)}})
    roles = [role.strip() for role in bands.split(",")] if bands else []
    with progress_bar(f"fetching {name}", as_json=False) as progress:
        made = fetch_published(network, out, file=file, bands=roles, accept_licence=accept_licence, progress=progress)
    encoder, report = made.encoder, made.report
    if as_json:
        keys = {what: list(getattr(report, what)) for what in ("matched", *_NOT_AS_THEY_ARE)}
        summary = {"licence": encoder.licence, "restriction": encoder.restriction, "keys": keys}
        click.echo(_as_line(summary, {"encoder": str(encoder.path)}, list(made.warnings)))
        return
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
    for what in _NOT_AS_THEY_ARE:
        keys = getattr(report, what)
        for key in keys[:_MOST_KEYS]:
            click.echo(f"{what:10} {key}")
        if len(keys) > _MOST_KEYS:
            click.echo(f"{what:10} and {len(keys) - _MOST_KEYS} more; --json names them all")
    click.echo(report.told())
    click.echo(f"{encoder.path}: {encoder.title}, reads {', '.join(encoder.roles)}; {_licence(encoder.licence, encoder.restriction)}")
    click.echo(f"learn with it: geoseg train SCENE --labels LABELS -s pretrained={encoder.path} -o OUT")


def _fetch_csmask(name: str, out: Path, *, given: list[str]) -> None:
    from geoseg.errors import InputError
    from geoseg.models.csmask import package_csmask
    from geoseg.scenes.catalog import Catalog

    if given:
        raise InputError(f"{name} is a model package, which is fetched as it is; leave out {' and '.join(given)}")
    made = package_csmask(Catalog.open().fetch("ukis_csmask"), out, level="l1c" if name.endswith("l1c") else "l2a")
    click.echo(f"{made.title}: {made.path}; use it with: geoseg predict SCENE --cloud-model {made.path} -o OUT")


def _as_line(summary: dict[str, Any], files: dict[str, str] | None = None, warnings: list[str] | None = None) -> str:
    """One line for programs."""
    said = {"event": "result", "files": files or {}, "summary": summary, "warnings": warnings or []}
    return json.dumps(said, ensure_ascii=False)


def _line(network: Published) -> str:
    """One network of the table."""
    pixel = f"{network.pixel_size_m:g} m" if network.pixel_size_m else "-"
    size = f"{network.size_mb:.0f} MB" if network.size_mb else "-"
    roles = network.roles
    read = ", ".join(roles) if 0 < len(roles) <= _FEW_BANDS else f"{len(roles)} bands" if roles else "-"
    licence = network.licence + ("*" if network.restriction else "")
    return _ROW.format(network.name, network.status, licence, pixel, size, read)


def _card(network: Published) -> str:
    """All that the table knows of one network."""
    facts = {
        "title": network.title,
        "tried": network.status,
        "licence": _licence(network.licence, network.restriction),
        "file": network.address,
        "size": f"{network.size_mb:g} MB" if network.size_mb else "",
        "paper": network.citation,
        "network": f"{network.family or 'none in geoseg'}, kept by {network.through}",
        "pixels": f"{network.pixel_size_m:g} m" if network.pixel_size_m else "",
        "patch": f"{network.patch} pixels" if network.patch else "",
        "image": f"{network.image} pixels" if network.image else "",
        "note": network.note,
    }
    lines = [f"{what:8} {fact}" for what, fact in facts.items() if fact]
    if network.bands:
        lines += ["", f"{'band':12} {'name':8} {'µm':>7} {'unit':12} {'mean':>10} {'deviation':>10}"]
    for band in network.bands:
        mean, std = network.statistics(band.role)
        wavelength = f"{band.wavelength_um:.4g}" if band.wavelength_um else "-"
        lines.append(f"{band.role:12} {band.name:8} {wavelength:>7} {band.unit:12} {mean:10.5g} {std:10.5g}")
    return "\n".join(lines)


def _encoder_card(encoder: Encoder) -> str:
    """What an encoder says of itself."""
    facts: dict[str, Any] = {
        "title": encoder.title,
        "licence": _licence(encoder.licence, encoder.restriction),
        "about": encoder.description,
        "network": ", ".join(f"{name} {value}" for name, value in encoder.architecture.items() if value is not None),
        "pixels": f"{encoder.pixel_size_m:g} m",
        **{key.replace("_", " "): value for key, value in encoder.training.items()},
        "named": encoder.attribution,
    }
    lines = [f"{what:10} {fact}" for what, fact in facts.items() if fact]
    units = {need.role: need.unit for need in encoder.preparation.bands}
    lines += ["", f"{'band':12} {'unit':12} {'mean':>10} {'deviation':>10}"]
    lines += [f"{one.name:12} {units.get(one.name, '1'):12} {one.mean:10.5g} {one.std:10.5g}" for one in encoder.preparation.channels]
    return "\n".join(lines)


def _licence(licence: str, restriction: str) -> str:
    return f"{licence}: {restriction}" if restriction else licence
