"""`geoseg suggest`: what is worth labelling next."""

from __future__ import annotations

import rich_click as click


@click.command()
def suggest() -> None:
    """What is worth labelling next."""
    raise click.UsageError("being written")
