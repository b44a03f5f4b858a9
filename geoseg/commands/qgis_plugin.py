"""`geoseg qgis-plugin`: geoseg in QGIS's Processing toolbox."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from geoseg.errors import InputError


@click.group("qgis-plugin")
def qgis_plugin() -> None:
    """geoseg in QGIS's toolbox: a small plugin that runs this command, and needs no torch in QGIS."""


@qgis_plugin.command(epilog="Example: `geoseg qgis-plugin install`")
@click.option("--profile", default="default", help="QGIS's user profile.")
@click.option("--folder", type=click.Path(path_type=Path), help="Another folder of plugins.")
def install(profile: str, folder: Path | None) -> None:
    """Put the plugin into QGIS's profile; it will run the geoseg of this environment.

    Then switch it on in QGIS: Plugins, Manage and Install Plugins, Installed, geoseg.
    """
    from geoseg.integrations.qgis_install import install_plugin

    place = install_plugin(profile, folder=folder)
    click.echo(
        f"{place}: switch it on in QGIS under Plugins, Manage and Install Plugins, Installed; or: qgis_process plugins enable {place.name}"
    )


@qgis_plugin.command("zip", epilog="Example: `geoseg qgis-plugin zip -o geoseg.zip`")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The new .zip.")
def zipped(out: Path) -> None:
    """Write the plugin as a .zip, for "Install from ZIP" in QGIS on any machine; it runs the geoseg on that machine's PATH."""
    from geoseg.integrations.qgis_install import write_zip

    if out.suffix != ".zip":
        raise InputError(f"{out} was given for a .zip; expected a name that ends in .zip")
    click.echo(str(write_zip(out)))
