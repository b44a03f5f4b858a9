"""The model card: a package's README.md, generated from its description."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from geoseg.models.description import ModelDescription, Output


def model_card(description: ModelDescription) -> str:
    """The card as Markdown, ending with a newline."""
    finest, coarsest = description.pixel_size_range_m
    facts = [
        ("licence of the weights", description.licence),
        *([("restriction", description.restriction)] if description.restriction else []),
        ("validated on", ", ".join(description.sensors) or "no sensor: see the figures"),
        ("pixel size", f"{description.pixel_size_m:g} m on the ground; used from {finest:g} to {coarsest:g} m"),
        ("tile, overlap, stride", f"{description.tile}, {description.overlap}, {description.stride} pixels"),
        ("made", description.created.isoformat()),
    ]
    parts = [
        f"# {description.title}",
        description.description,
        _table(("", ""), facts),
        "## What it reads",
        _bands(description),
        "## What it makes",
        *(_output(output) for output in description.outputs),
        "## How good it is",
        _figures(description),
        "## How it was made",
        _origin(description),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _bands(description: ModelDescription) -> str:
    preparation = description.preparation
    bands = [(band.role, band.unit, band.convention or "") for band in preparation.bands]
    channels = [(c.name, c.kind, f"{c.mean:.6g}", f"{c.std:.6g}") for c in preparation.channels]
    speckle = preparation.despeckle
    filtered = f"Speckle is filtered first: {speckle.method}, {speckle.size} x {speckle.size} pixels, in linear power." if speckle else ""
    said = ["Bands, by role, in order:", _table(("role", "unit", "convention"), bands)]
    said += ["Channels of the network, each (value - mean) / deviation:", _table(("channel", "kind", "mean", "deviation"), channels)]
    return "\n\n".join([*said, filtered]).rstrip()


def _output(output: Output) -> str:
    if output.kind == "quantity" and output.range is not None:
        return f"**{output.name}**: a quantity in {output.unit}, from {output.range[0]:g} to {output.range[1]:g}."
    scores = "calibrated" if output.calibrated else "uncalibrated"
    if output.temperature is not None:
        scores += f" by a temperature of {output.temperature:.3g}, which holds for ground like that on which it was fitted"
    rows = [(str(c.code), c.name, c.colour, "background" if c.background else "") for c in output.classes]
    legend = _table(("code", "class", "colour", ""), rows)
    return f"**{output.name}**: {len(output.classes)} classes, {output.nodata} where there is none; its scores are {scores}.\n\n{legend}"


def _figures(description: ModelDescription) -> str:
    if not description.figures:
        return "Not measured: trust no map of this model before you have compared it with ground that you know."
    rows = [(figure.name, f"{figure.value:.4g}", figure.on, figure.by) for figure in description.figures]
    return _table(("figure", "value", "measured on", "truth by"), rows)


def _origin(description: ModelDescription) -> str:
    dates = description.trained_dates
    rows = [("labels", description.labels), ("attribution", description.attribution)]
    rows += [("ground (west, south, east, north)", ", ".join(f"{value:g}" for value in description.trained_bbox or ()))]
    rows += [("acquired", f"{dates[0].date()} to {dates[1].date()}" if dates else "")]
    rows += [(key.replace("_", " "), str(value)) for key, value in {**description.architecture, **description.training}.items()]
    rows += [(f"version of {name}", version) for name, version in description.versions.items()]
    said = [row for row in rows if row[1]]
    return _table(("", ""), said) if said else "Not stated."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
