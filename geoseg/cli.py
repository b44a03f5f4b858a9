"""The `geoseg` command: its members, and how every error ends in one sentence.

Each member, in `geoseg/commands/`, parses, calls one public function, and prints. Heavy imports happen inside.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import rich_click as click

from geoseg.commands._help import arrange
from geoseg.commands.benchmark import benchmark
from geoseg.commands.calibrate import calibrate
from geoseg.commands.composite import composite
from geoseg.commands.conformal import conformal
from geoseg.commands.data import data
from geoseg.commands.demo import demo
from geoseg.commands.despeckle import despeckle
from geoseg.commands.diff import diff
from geoseg.commands.doctor import doctor
from geoseg.commands.embed import embed
from geoseg.commands.evaluate import evaluate
from geoseg.commands.explain import explain
from geoseg.commands.export import export
from geoseg.commands.icechart import icechart
from geoseg.commands.info import info, sensors
from geoseg.commands.learn import learn
from geoseg.commands.models import models
from geoseg.commands.mosaic import mosaic
from geoseg.commands.predict import predict
from geoseg.commands.qgis_plugin import qgis_plugin
from geoseg.commands.sample import sample
from geoseg.commands.stac import stac
from geoseg.commands.suggest import suggest
from geoseg.commands.train import train
from geoseg.commands.view import view
from geoseg.commands.zones import zones
from geoseg.errors import GeosegError, InputError

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a command that was stopped: 128 and the number of the signal."""


class Terminated(KeyboardInterrupt):
    """The system asked the command to end; it does, as if the user had."""


arrange()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="geoseg")
@click.option("--debug", is_flag=True, help="Show the whole traceback of an error.")
def cli(debug: bool) -> None:
    """Maps from satellite and aerial scenes: from a GeoTIFF to a styled layer in QGIS.

    Exit codes: 0 done, 1 failed, 2 what was given cannot be used, 3 some of several scenes failed, 130 stopped by the user,
    143 by the system.
    """


for member in (
    info,
    predict,
    view,
    train,
    learn,
    suggest,
    embed,
    calibrate,
    conformal,
    demo,
    sensors,
    data,
    models,
    icechart,
    composite,
    despeckle,
    diff,
    mosaic,
    zones,
    export,
    evaluate,
    explain,
    sample,
    benchmark,
    stac,
    doctor,
    qgis_plugin,
):
    cli.add_command(member)


def main() -> None:
    """Run the command line; every error of ours ends in one sentence and its exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is loaded: its threads spin and buy nothing here
    debug = "--debug" in sys.argv
    try:
        if "" in sys.argv[1:]:
            raise InputError("one of the words given is empty, perhaps by a shell variable that is not set; fill it or leave it out")
        with _without_dask(), _ended_by_the_system():
            code = cli(prog_name="geoseg", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort) as error:
        kept = _notes(error) or "nothing unfinished was kept, but a training goes on from its last epoch with --resume"
        by_system = isinstance(error, Terminated) or isinstance(error.__context__, Terminated)
        code = _failed(f"stopped; {kept}", TERMINATED if by_system else INTERRUPTED)
    except click.ClickException as error:
        code = _failed(f"geoseg: {_usage(error)}", error.exit_code)
    except GeosegError as error:
        code = _failed(f"geoseg: {error}", error.exit_code, debug=debug, notes=_notes(error))
    except MemoryError as error:
        sentence = "geoseg: the memory of this machine does not suffice; close other programs, or map a part with --aoi"
        code = _failed(sentence, 1, debug=debug, notes=_notes(error))
    except Exception as error:
        said = " ".join(str(error).split())
        sentence = f"geoseg: unexpected error, please report it ({type(error).__name__}: {said}); geoseg --debug ... shows where"
        code = _failed(sentence, 1, debug=debug, notes=_notes(error))
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _without_dask() -> Iterator[None]:
    """Unless a cluster is asked for, dask is not there: odc-geo would load it, in a fifth of a second, for arrays that no command makes."""
    if "dask" in sys.modules or any(word.startswith("--cluster") for word in sys.argv):
        yield
        return
    sys.modules["dask"] = None  # type: ignore[assignment]  # Python's way to say that a module cannot be imported
    try:
        yield
    finally:
        sys.modules.pop("dask", None)


@contextmanager
def _ended_by_the_system() -> Iterator[None]:
    """SIGTERM, as `kill` and batch systems send it, ends a command as Ctrl-C does: what is half-written goes, what can be resumed stays."""

    def end(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _failed(sentence: str, code: int, *, debug: bool = False, notes: str = "") -> int:
    if debug:
        traceback.print_exc()
    click.echo(f"{sentence}; {notes}" if notes else sentence, err=True)
    return code


def _notes(error: BaseException) -> str:
    """What is kept of the work, where something is."""
    noted = error.__context__ if isinstance(error, click.Abort) else error  # click's own way of saying that the user stopped it
    return "; ".join(getattr(noted, "__notes__", ()))


def _usage(error: click.ClickException) -> str:
    """Click's message on one line, with the command that says more."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    more = f"; see {context.command_path} --help" if context is not None else ""
    return " ".join(error.format_message().split()).rstrip(".") + more
