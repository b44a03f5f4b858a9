"""The page on many scenes, run as it stands on a few generated scenes, and its scripts for clusters read for what geoseg knows."""

from __future__ import annotations

import re
from pathlib import Path

import geopandas
import yaml
from command_line import write
from how_to import PAGES, run_page
from packages import threshold_package

from geoseg.commands.predict import predict

PAGE = "many-scenes.md"
TEXT = (PAGES / PAGE).read_text(encoding="utf-8")


def test_an_archive_is_mapped_and_the_next_night_only_looked_at(place: Path, geoseg, monkeypatch) -> None:
    (place / "scenes").mkdir()
    for name, fill in (("tile9", 50), ("tile10", 150)):
        write(place / "scenes" / f"{name}.tif", fill=fill)
    threshold_package(place / "landcover")
    first, second = run_page(PAGE, place, geoseg, monkeypatch)
    assert "2 scenes: 2 finished" in first.out
    assert "2 scenes: 2 skipped" in second.out
    table = geopandas.read_parquet(place / "maps/summary.parquet").set_index("name")
    assert {name: row["km2_class 1"] > 0 for name, row in table.iterrows()} == {"tile9": False, "tile10": True}


def test_every_option_on_the_page_is_one_of_the_command() -> None:
    known = {option for parameter in predict.params for option in parameter.opts}
    given = {word for line in TEXT.splitlines() if "geoseg predict " in line for word in re.findall(r"(?<=\s)--?[a-z-]+", line)} - {"-c"}
    assert {"--shard", "--jobs", "--cluster"} <= given <= known


def test_both_kinds_of_machines_count_parts_from_zero() -> None:
    (job,) = (yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
    parts = job["spec"]["completions"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert f"$JOB_COMPLETION_INDEX/{parts}" in job["spec"]["template"]["spec"]["containers"][0]["args"][0]
    (first, last) = re.search(r"--array=(\d+)-(\d+)", TEXT).groups()
    assert (int(first), f'$SLURM_ARRAY_TASK_ID/{int(last) + 1}"' in TEXT) == (0, True)
