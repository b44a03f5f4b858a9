"""How the help reads: commands by the day's work, options by what they are about, the same in every command."""

from __future__ import annotations

import rich_click as click

COMMANDS = {
    "From a scene to a map": ("info", "predict", "view", "demo"),
    "Scenes before": ("composite", "despeckle", "embed"),
    "Maps after": ("mosaic", "diff", "zones", "stac"),
    "Models of your own": ("train", "learn", "suggest", "calibrate", "export", "benchmark"),
    "How good, how sure, why": ("evaluate", "sample", "conformal", "explain"),
    "What there is": ("sensors", "data", "models", "icechart", "doctor", "qgis-plugin"),
}
"""Heading → commands, in the order of `geoseg --help`."""

OPTIONS = {
    "What it is about": (
        "--model", "--labels", "--class-column", "--recipe", "--settings", "--set", "--shrink-labels-m", "--scenes", "--map", "--legend",
    ),
    "What the scene is": (
        "--sensor", "--bands", "--scale", "--offset", "--unit", "--convention", "--convert", "--mask", "--mask-values", "--dem",
        "--stack", "--series", "--dates",
    ),
    "Which ground": (
        "--aoi", "--exclude", "--mask-classes", "--mask-grow-m", "--cloud-model", "--resolution", "--crs", "--like", "--regions",
        "--region-column",
    ),
    "What is written besides": (
        "--scores", "--uncertainty", "--conformal", "--level", "--upsample", "--dtype", "--normalise",
        "--min-area-m2", "--simplify-m", "--shape", "--vectors", "--zones", "--no-picture", "--no-polygons", "--keep-maps",
    ),
    "How it is computed": (
        "--period", "--method", "--rule", "--size", "--looks", "--runtime", "--precision", "--device", "--threads", "--tile", "--batch",
        "--overlap", "--tta", "--on-error", "--jobs", "--cluster", "--shard", "--skip-finished",
    ),
    "Where it goes": ("--out", "--name", "--overwrite", "--resume", "--dry-run", "--again", "--json"),
}  # fmt: skip
"""Heading → options; those of a command that stand nowhere here come last."""


def arrange() -> None:
    """Tell rich-click the headings."""
    click.rich_click.TEXT_MARKUP = "markdown"
    click.rich_click.COMMAND_GROUPS["geoseg"] = [{"name": name, "commands": list(commands)} for name, commands in COMMANDS.items()]
    click.rich_click.OPTION_GROUPS["geoseg *"] = [{"name": name, "options": list(options)} for name, options in OPTIONS.items()]
