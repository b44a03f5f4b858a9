"""The rules of the house that no single module can keep: layers, light imports, Windows, packaging, clean files."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
from packages import threshold_package

import geoseg
from geoseg.errors import MissingExtraError

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "geoseg").rglob("*.py"))
}

TORCH_PARTS = ("geoseg.recipes.", "geoseg.backbones.")
WITHOUT_TORCH = {"geoseg.backbones", "geoseg.backbones.published", "geoseg.backbones.published_libraries"} | {
    f"geoseg.recipes.{name}" for name in ("_common_settings", "_ground", "_results", "_settings", "pixel_forest")
}
TORCH_MODULES = {
    "geoseg.models.detail",
    "geoseg.models.encoder_network",
    "geoseg.models.reach",
    "geoseg.models.segmenter",
    "geoseg.models.set_loss",
    "geoseg.models.losses",
    "geoseg.models.region_losses",
    "geoseg.models.stems",
    "geoseg.models.export",
    "geoseg.data.benchmark_samples",
    "geoseg.data.torchgeo",
}
"""Where torch may be imported at the top of a file; everything else is the core."""
IN_QGIS = {"geoseg.integrations.qgis_plugin"}
"""What is copied into QGIS, and runs there only."""

HEAVY = {
    "torch",
    "lightning",
    "torchgeo",
    "rasterio",
    "geopandas",
    "pandas",
    "scipy",
    "xarray",
    "onnxruntime",
    "pyproj",
    "shapely",
    "numpy",
}
"""What `import geoseg` and `geoseg --help` must not load."""

POSIX_ONLY = {"crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog", "termios", "tty"}
"""Modules that Windows lacks."""
POSIX_ONLY_NAMES = {
    "os.fork", "os.getuid", "os.geteuid", "os.getgid", "os.getpgid", "os.killpg", "os.mkfifo", "os.pread", "os.pwrite", "os.setsid",
    "os.sched_getaffinity", "os.statvfs", "os.sysconf", "os.uname", "signal.SIGALRM", "signal.SIGHUP", "signal.SIGKILL", "signal.alarm",
}  # fmt: skip


# Who may import whom


def layer_table() -> dict[str, tuple[int, int]]:
    """Part of geoseg → its layer and its room there, from the table in ARCHITECTURE.md; `|` divides a layer into rooms."""
    rows = re.findall(r"^(\d+) +([a-z |]+?)(?:  .*)?$", ARCHITECTURE, flags=re.MULTILINE)
    return {part: (int(layer), room) for layer, row in rows for room, parts in enumerate(row.split("|")) for part in parts.split()}


def imported(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[str]:
    """Every module of geoseg that the file imports: at its top, inside functions, relatively, or by a name given to a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            steps = node.level - is_package
            start = ".".join(module.split(".")[: len(module.split(".")) - steps]) + "." if node.level else ""
            source = (start + (node.module or "")).rstrip(".")
            yield from (f"{source}.{alias.name}" if source == "geoseg" else source for alias in node.names)
        elif isinstance(node, ast.Call):
            texts = (argument.value for argument in node.args if isinstance(argument, ast.Constant))
            yield from (text for text in texts if isinstance(text, str) and re.fullmatch(r"geoseg(\.\w+)+", text))


def offence(module: str, source: str, *, is_package: bool = False) -> str | None:
    """What is wrong with the imports of this file, in one sentence; None where nothing is."""
    table, part = layer_table(), module.split(".")[1]
    if part not in table:
        return f"{module} is not in the layer table of ARCHITECTURE.md"
    for name in imported(ast.parse(source), module, is_package=is_package):
        other = [*name.split("."), ""][1]
        if name.split(".")[0] != "geoseg" or other in (part, "__version__"):
            continue
        if other not in table:
            return f"{module} imports {name}, which the layer table does not know: import from the name's own module, or add it there"
        (mine, room), (theirs, their_room) = table[part], table[other]
        if theirs > mine or (theirs == mine and room != their_room):
            return f"{module} (layer {mine}) imports {name} (layer {theirs}): imports go down only"
    return None


@pytest.mark.parametrize("module", [name for name in MODULES if name != "geoseg"])
def test_imports_go_down_only(module: str) -> None:
    path = MODULES[module]
    problem = offence(module, path.read_text(encoding="utf-8"), is_package=path.name == "__init__.py")
    assert problem is None


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("geoseg.io.geotiff", "from geoseg.models.package import ModelPackage"),
        ("geoseg.io.geotiff", "def f():\n    import geoseg.mapping.tiles"),
        ("geoseg.io.geotiff", "from geoseg.preprocess.prepare import prepare"),
        ("geoseg.recipes.supervised", "from ..mapping import make_map"),
        ("geoseg.mapping.tiles", "require('geoseg.recipes.supervised', extra='train')"),
        ("geoseg.mapping.tiles", "from geoseg import Legend"),
        ("geoseg.raster", "from . import io"),
        ("geoseg.utils", ""),
    ],
)
def test_an_import_upwards_is_found(module: str, source: str) -> None:
    assert module in (offence(module, source) or "")


@pytest.mark.parametrize(
    "source", ["from geoseg.scene import Scene", "from .tiles import plan_tiles", "from geoseg import __version__", "import numpy"]
)
def test_an_import_downwards_or_at_home_is_allowed(source: str) -> None:
    assert offence("geoseg.mapping.make_map", source) is None


# Light imports, and a core without torch


def modules_after(program: str, *arguments: str, folder: Path = ROOT) -> set[str]:
    """Names in sys.modules at the end of a fresh Python that ran this program in that folder."""
    ending = "\nimport sys as _sys, json as _json\n_sys.stderr.write('\\n' + _json.dumps(sorted(_sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program + ending, *arguments], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_import_geoseg_loads_next_to_nothing() -> None:
    added = modules_after("import geoseg") - modules_after("")
    assert {name for name in added if name.startswith("geoseg")} == {"geoseg"}
    assert len(added) < 40
    assert not added & HEAVY


def test_help_loads_nothing_heavy() -> None:
    program = "from geoseg.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    loaded = modules_after(program, "--help")
    assert not loaded & HEAVY
    assert len(loaded) < 500


def core_modules() -> list[str]:
    heavy = {name for name in MODULES if name.startswith(TORCH_PARTS)} - WITHOUT_TORCH | TORCH_MODULES
    return [name for name in MODULES if name not in heavy | IN_QGIS and not name.endswith("__main__")]


BLOCK_TORCH = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "lightning", "pytorch_lightning", "torchgeo", "timm"}:
            raise ModuleNotFoundError(f"{name} is not there", name=name)

sys.meta_path.insert(0, Blocked())
"""
"""Put before a program, it makes torch and what stands on it impossible to import."""


MAP_AND_IMPORT = """
from geoseg.cli import main

names, sys.argv = sys.argv[1:], ["geoseg", "predict", "scene.tif", "--sensor", "generic", "--model", "model", "-o", "out"]
try:
    main()
except SystemExit as end:
    assert not end.code
for name in names:
    importlib.import_module(name)
"""


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """A folder in which a Python without torch has mapped `scene.tif`, and its modules after it imported those of the core, too."""
    folder = tmp_path_factory.mktemp("core")
    threshold_package(folder / "model")
    transform = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
    shape = {"count": 1, "height": 40, "width": 50, "dtype": "uint8"}
    with rasterio.open(folder / "scene.tif", "w", driver="GTiff", crs="EPSG:32632", transform=transform, **shape) as file:
        file.write(np.arange(2000, dtype=np.uint16).reshape(1, 40, 50).astype(np.uint8))
        file.set_band_description(1, "red")
    return folder, modules_after(BLOCK_TORCH + MAP_AND_IMPORT, *core_modules(), folder=folder)


def test_core_modules_import_without_torch(without_torch: tuple[Path, set[str]]) -> None:
    _, loaded = without_torch
    assert set(core_modules()) <= loaded


def test_a_scene_is_mapped_without_torch(without_torch: tuple[Path, set[str]]) -> None:
    folder, _ = without_torch
    with rasterio.open(folder / "out" / "scene_classes.tif") as classes, rasterio.open(folder / "scene.tif") as scene:
        np.testing.assert_array_equal(classes.read(1), scene.read(1) > 100)


def test_torch_is_really_blocked() -> None:
    done = subprocess.run([sys.executable, "-c", BLOCK_TORCH + "import torch"], capture_output=True, text=True)
    assert "ModuleNotFoundError: torch is not there" in done.stderr


# Windows


def posix_uses(source: str) -> list[str]:
    """POSIX-only modules and names in a file that no `try` … `except` and no `if` on platform or name guards."""
    found = []

    def look(node: ast.AST, guarded: bool) -> None:
        if isinstance(node, ast.Try):
            caught = " ".join(ast.unparse(handler.type) for handler in node.handlers if handler.type)
            guarded = guarded or bool(re.search("ImportError|ModuleNotFoundError|AttributeError", caught))
        if isinstance(node, ast.If | ast.IfExp):
            guarded = guarded or bool(re.search("sys.platform|os.name|hasattr", ast.unparse(node.test)))
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        found.extend(name for name in names if not guarded and name in POSIX_ONLY | POSIX_ONLY_NAMES)
        for child in ast.iter_child_nodes(node):
            look(child, guarded)

    look(ast.parse(source), guarded=False)
    return found


def test_nothing_needs_posix_unguarded() -> None:
    uses = {module: posix_uses(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}
    assert {module: names for module, names in uses.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import resource", ["resource"]),
        ("def f():\n    from fcntl import flock", ["fcntl"]),
        ("import os\nos.fork()", ["os.fork"]),
        ("from os import sched_getaffinity", ["os.sched_getaffinity"]),
        ("try:\n    import resource\nexcept ImportError:\n    resource = None", []),
        ("if sys.platform != 'win32':\n    import pwd", []),
        ("n = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()", []),
    ],
)
def test_posix_uses_are_told_from_guarded_ones(source: str, found: list[str]) -> None:
    assert posix_uses(source) == found


# Public names and papers


def test_public_names_resolve_and_match_the_typed_imports() -> None:
    tree = ast.parse(MODULES["geoseg"].read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    typed = {alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed == {name: f"geoseg.{home}" for name, home in geoseg._HOMES.items()}
    learning = importlib.util.find_spec("lightning") is not None
    for name, home in typed.items():
        if learning or not str(home).startswith("geoseg.recipes."):
            assert getattr(geoseg, name) is not None
        else:
            with pytest.raises(MissingExtraError, match="pip install"):
                getattr(geoseg, name)
    assert set(typed) <= set(dir(geoseg))


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'geoseg' has no attribute 'Lgend'"):
        _ = geoseg.Lgend


def architecture_paths() -> list[str]:
    """The paths in ARCHITECTURE.md: those between backticks that hold a slash or a file ending, and those of the indented tree."""
    paths = [text for text in re.findall(r"`([\w./-]+)`", ARCHITECTURE) if re.search(r"/|\.(py|md|yaml|toml|txt)$", text)]
    tree = re.search(r"```text\n(.*?)```", ARCHITECTURE, flags=re.DOTALL)
    assert tree
    above: list[str] = []
    for line in tree[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r"\s{2,}", line.strip())[0].split()
        above = [*above[:depth], names[0]] if names and names[0].endswith("/") else above[:depth]
        paths += ["".join(above)] if names and names[0].endswith("/") else ["".join([*above, name]) for name in names]
    return paths


def test_every_path_in_architecture_exists() -> None:
    paths = architecture_paths()
    assert {"geoseg/mapping/make_map.py", "geoseg/io/geotiff.py", "data_catalog.yaml"} <= set(paths)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_version_is_the_same_everywhere() -> None:
    assert f"\nversion: {geoseg.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {geoseg.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_each_make_target_has_a_sentence_above() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", text, flags=re.MULTILINE)
    assert targets
    assert [name for name in targets[1].split() if not re.search(rf"^# [A-Z].*\.\n{name}:", text, flags=re.MULTILINE)] == []


def requirement_names(requirements: list[str]) -> set[str]:
    names = (re.match(r"[\w-]+", requirement) for requirement in requirements)
    return {name[0].lower().replace("_", "-") for name in names if name} - {"geoseg"}


def test_constraints_pin_every_dependency_and_name_no_address() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert [line for line in pins if not re.fullmatch(r"[a-z0-9.-]+==[\w.+!-]+( ; [a-z_]+ [<=>!]+ '[\w.]+')?", line)] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = requirement_names([*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)])
    assert asked - requirement_names(pins) == set()


def own_files() -> list[Path]:
    """Files that are, or would be, under version control."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("this is no git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_registry_host_or_a_place_on_this_machine() -> None:
    hosts = [
        ".".join(parts)
        for parts in (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs", "org"), ("download", "pytorch", "org"))
    ]
    places = [f"{place}/" for place in {ROOT, ROOT.parent, Path.home()} - {Path("/"), Path(tempfile.gettempdir())}]
    homes = re.compile(r"(?<![\w.])/(home|Users)/\w|[A-Z]:\\Users\\")
    offenders = []
    for path in own_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        offenders += [f"{path.relative_to(ROOT)}: {word}" for word in [*hosts, *places] if word in text]
        if path != Path(__file__).resolve() and (match := homes.search(text)):
            offenders.append(f"{path.relative_to(ROOT)}: {match[0]}")
    assert offenders == []


def test_the_wheel_holds_default_model_catalogue_and_types(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="the extra dev brings it")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    default = {path.relative_to(ROOT).as_posix() for path in (ROOT / "geoseg/models/default").rglob("*") if path.is_file()}
    assert {"geoseg/models/default/model.json", "geoseg/models/default/model.onnx"} <= default <= names
    assert {"geoseg/data_catalog.yaml", "geoseg/py.typed", "geoseg/mapping/make_map.py", "geoseg/backbones/published.yaml"} <= names
    page = {path.relative_to(ROOT).as_posix() for path in (ROOT / "geoseg/view/static").iterdir()}
    assert {f"geoseg/view/static/{name}" for name in ("index.html", "maplibre-gl.mjs", "maplibre-gl-LICENSE.txt")} <= page <= names
    assert {name.split("/")[0] for name in names} == {"geoseg", f"geoseg-{geoseg.__version__}.dist-info"}
