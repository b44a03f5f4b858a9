"""`geoseg view`: the local web page of finished maps and scenes."""

from __future__ import annotations

import rich_click as click


@click.command()
def view() -> None:
    """The local web page of finished maps and scenes."""
    raise click.UsageError("being written")
