"""`rio geoseg …`: the command line inside rasterio's. rio loads this file at every start, so it loads nothing else of ours."""

from __future__ import annotations

import sys

import click


@click.command("geoseg", add_help_option=False, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def geoseg(words: tuple[str, ...]) -> None:
    """Classes, polygons and areas from a scene: all commands of geoseg."""
    from geoseg.cli import main

    sys.argv = ["geoseg", *words]
    main()
