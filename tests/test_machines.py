"""The command line for machines: every line of --json keeps the schema, and a batch system's signal ends a command well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import packages
import pytest
from command_line import contents, write

GENERIC = ("--sensor", "generic")
PREDICT = ("predict", "scene.tif", *GENERIC, "--model", "model")
SCHEMA = json.loads((Path(__file__).resolve().parents[1] / "docs" / "json-lines.schema.json").read_text(encoding="utf-8"))


def lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


@pytest.mark.parametrize(
    "words",
    [
        (*PREDICT, "-o", "new"),
        (*PREDICT, "--dry-run"),
        ("predict", "scene.tif", "other.tif", *GENERIC, "--model", "model", "-o", "several"),
        ("mosaic", "out", "-o", "joined"),
        ("diff", "out", "out", "-o", "change"),
        ("evaluate", "out", "--labels", "out/scene_classes.tif", "-o", "report"),
        ("sample", "design", "out", "--points", "120", "-o", "points.gpkg"),
        ("doctor",),
    ],
)
def test_every_line_keeps_the_schema(geoseg, place, words):
    write(place / "other.tif")
    assert geoseg(*PREDICT, "-o", "out").code == 0
    ran = geoseg(*words, "--json")
    told = lines(ran.out)
    assert (ran.code, bool(told)) == (0, True), ran.err
    for line in told:
        jsonschema.validate(line, SCHEMA)
    assert told[-1]["event"] in ("result", "plan")


@pytest.mark.parametrize("line", [{"event": "done"}, {"event": "progress", "scene": "x", "done": 1}, {"event": "result", "files": {}}])
def test_another_line_does_not_keep_it(line):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(line, SCHEMA)


@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes without asking them")
def test_sigterm_ends_a_map_that_can_be_resumed(geoseg, place):
    write(place / "large.tif", side=1200)
    packages.threshold_package(place / "slow", tile=64, overlap=32)
    words = ["predict", "large.tif", *GENERIC, "--model", "slow", "-o", "out", "--json"]
    child = subprocess.Popen([sys.executable, "-c", "from geoseg.cli import main; main()", *words], stdout=-1, stderr=-1, text=True)
    assert child.stdout is not None
    child.stdout.readline()  # the first strip is finished
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 143
    assert said.strip().startswith("stopped; ")
    assert len(said.strip().splitlines()) == 1
    assert not [name for name in contents(place) if name.startswith("out/large")]  # nothing half-written under a result's name
    assert geoseg(*words, "--resume").code == 0
