"""geoseg in QGIS's Processing toolbox. This file is copied into QGIS and runs there: it loads nothing of geoseg, nor anything QGIS lacks.

Each algorithm runs the `geoseg` command of the environment from which the plugin was installed, shows its progress, stops it when the user
does, and adds the styled result to the project. QGIS's own settings for Python, GDAL and PROJ are kept from it, since its libraries are
others.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from qgis.core import (
    QgsApplication,
    QgsProcessing,
    QgsProcessingAlgorithm,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingOutputHtml,
    QgsProcessingOutputRasterLayer,
    QgsProcessingOutputVectorLayer,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorLayer,
    QgsProcessingProvider,
)

COMMAND = "command.json"
"""Beside this file: the words that start geoseg."""
_FOREIGN = ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA", "LD_LIBRARY_PATH")
"""What QGIS sets for itself and would mislead another Python."""
_WAIT_S, _ENDING_S = 0.2, 10.0


def classFactory(iface: Any) -> Plugin:
    """What QGIS calls, by this name, when it loads the plugin."""
    return Plugin()


class Plugin:
    """Adds the provider to Processing, also in qgis_process, which has no window."""

    def __init__(self) -> None:
        self.provider: Provider | None = None

    def initProcessing(self) -> None:
        """Called without a window."""
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        """Called with one."""
        self.initProcessing()

    def unload(self) -> None:
        """Called when the plugin is switched off."""
        QgsApplication.processingRegistry().removeProvider(self.provider)


class Provider(QgsProcessingProvider):
    """geoseg's part of the toolbox."""

    def id(self) -> str:
        """The first word of the algorithms' names."""
        return "geoseg"

    def name(self) -> str:
        """What people read."""
        return "geoseg"

    def loadAlgorithms(self) -> None:
        """Called by QGIS."""
        for algorithm in (MapScene(), CompareMaps(), SumUpPolygons(), EvaluateMap()):
            self.addAlgorithm(algorithm)


class MapScene(QgsProcessingAlgorithm):
    """`geoseg predict` on a layer, or on a product as downloaded."""

    LAYER, PRODUCT, MODEL, SENSOR, BANDS, AREA, SMALLEST, SCORES, MORE, OUT = (
        "LAYER", "PRODUCT", "MODEL", "SENSOR", "BANDS", "AREA", "SMALLEST", "SCORES", "MORE", "OUT",
    )  # fmt: skip

    def createInstance(self) -> MapScene:
        """Called by QGIS."""
        return MapScene()

    def name(self) -> str:
        """In commands."""
        return "mapscene"

    def displayName(self) -> str:
        """In the toolbox."""
        return "Map a scene"

    def shortHelpString(self) -> str:
        """Beside the parameters."""
        return (
            "Maps a scene with a model package: a class raster, polygons with areas and scores, and why a pixel has a class or none. "
            "Give a raster layer, or the path of a product as downloaded (SAFE, folder, zip). Bands are found by their names; where these "
            "do not say what they are, name the sensor, or the bands by role in their order, such as: blue,green,red,nir"
        )

    def initAlgorithm(self, config: Any = None) -> None:
        """The parameters and what comes out."""
        for parameter in (
            QgsProcessingParameterRasterLayer(self.LAYER, "Scene", optional=True),
            QgsProcessingParameterString(self.PRODUCT, "Or a product as downloaded (path)", optional=True),
            QgsProcessingParameterString(self.MODEL, "Model package (folder or .zip; empty: water, as shipped)", optional=True),
            QgsProcessingParameterString(self.SENSOR, "Sensor (geoseg sensors lists them)", optional=True),
            QgsProcessingParameterString(self.BANDS, "Bands by role, in order", optional=True),
            QgsProcessingParameterVectorLayer(self.AREA, "Only this area", [QgsProcessing.TypeVectorPolygon], optional=True),
            QgsProcessingParameterNumber(self.SMALLEST, "Smallest region (m²)", QgsProcessingParameterNumber.Double, 0.0, minValue=0.0),
            QgsProcessingParameterBoolean(self.SCORES, "Scores of all classes, too", False),
            QgsProcessingParameterString(self.MORE, "Further options, as geoseg predict --help names them", optional=True),
            QgsProcessingParameterFolderDestination(self.OUT, "Folder of the results"),
        ):
            self.addParameter(parameter)
        self.addOutput(QgsProcessingOutputRasterLayer("CLASSES", "Classes"))
        self.addOutput(QgsProcessingOutputVectorLayer("POLYGONS", "Polygons"))

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the command, and have the results loaded."""
        layer = self.parameterAsRasterLayer(parameters, self.LAYER, context)
        source = self.parameterAsString(parameters, self.PRODUCT, context) or (_file(layer) if layer is not None else "")
        if not source:
            raise QgsProcessingException("No scene was given; choose a raster layer, or give the path of a product.")
        out = self.parameterAsString(parameters, self.OUT, context)
        words = ["predict", source, "-o", out, "--overwrite", "--json"]
        for option, name in (("--model", self.MODEL), ("--sensor", self.SENSOR), ("--bands", self.BANDS)):
            if given := self.parameterAsString(parameters, name, context).strip():
                words += [option, given]
        area = self.parameterAsVectorLayer(parameters, self.AREA, context)
        words += ["--aoi", _file(area)] if area is not None else []
        if (smallest := self.parameterAsDouble(parameters, self.SMALLEST, context)) > 0:
            words += ["--min-area-m2", f"{smallest:g}"]
        words += ["--scores"] if self.parameterAsBool(parameters, self.SCORES, context) else []
        words += shlex.split(self.parameterAsString(parameters, self.MORE, context))
        files = run(words, feedback)["files"]
        results = {self.OUT: out}
        polygons = next((path for what, path in files.items() if what.endswith("_polygons")), None)
        classes = next((path for what, path in files.items() if f"{what}_polygons" in files or what == "classes"), None)
        if classes is not None:
            results |= _loaded(context, "CLASSES", Path(classes).stem, classes)
        if polygons is not None:
            results |= _loaded(context, "POLYGONS", f"{Path(polygons).stem} polygons", polygons)
        return results


class CompareMaps(QgsProcessingAlgorithm):
    """`geoseg diff` on two class maps."""

    BEFORE, AFTER, CLASS, SMALLEST, OUT = "BEFORE", "AFTER", "CLASS", "SMALLEST", "OUT"

    def createInstance(self) -> CompareMaps:
        """Called by QGIS."""
        return CompareMaps()

    def name(self) -> str:
        """In commands."""
        return "comparemaps"

    def displayName(self) -> str:
        """In the toolbox."""
        return "What changed between two maps"

    def shortHelpString(self) -> str:
        """Beside the parameters."""
        return "Areas of all changes from class to class, with polygons and a raster. What one map did not see is never called changed."

    def initAlgorithm(self, config: Any = None) -> None:
        """The parameters and what comes out."""
        for parameter in (
            QgsProcessingParameterRasterLayer(self.BEFORE, "Class map before"),
            QgsProcessingParameterRasterLayer(self.AFTER, "Class map after"),
            QgsProcessingParameterString(self.CLASS, "Follow one class only", optional=True),
            QgsProcessingParameterNumber(self.SMALLEST, "Smallest polygon (m²)", QgsProcessingParameterNumber.Double, 0.0, minValue=0.0),
            QgsProcessingParameterFolderDestination(self.OUT, "Folder of the results"),
        ):
            self.addParameter(parameter)
        self.addOutput(QgsProcessingOutputVectorLayer("POLYGONS", "Changed polygons"))

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the command, and have the polygons loaded."""
        out = self.parameterAsString(parameters, self.OUT, context)
        maps = [_file(self.parameterAsRasterLayer(parameters, name, context)) for name in (self.BEFORE, self.AFTER)]
        words = ["diff", *maps, "-o", out, "--overwrite", "--json"]
        if followed := self.parameterAsString(parameters, self.CLASS, context).strip():
            words += ["--class", followed]
        words += ["--min-area-m2", f"{self.parameterAsDouble(parameters, self.SMALLEST, context):g}"]
        files = run(words, feedback)["files"]
        return {self.OUT: out} | _loaded(context, "POLYGONS", "What changed", files["polygons"])


class SumUpPolygons(QgsProcessingAlgorithm):
    """`geoseg zones` on a class map and polygons."""

    MAP, POLYGONS, OUT = "MAP", "POLYGONS", "OUT"

    def createInstance(self) -> SumUpPolygons:
        """Called by QGIS."""
        return SumUpPolygons()

    def name(self) -> str:
        """In commands."""
        return "sumuppolygons"

    def displayName(self) -> str:
        """In the toolbox."""
        return "What a map says of polygons"

    def shortHelpString(self) -> str:
        """Beside the parameters."""
        return (
            "Adds to each polygon, such as a parcel, its majority class, the share of every class, the mean score and the observed share."
        )

    def initAlgorithm(self, config: Any = None) -> None:
        """The parameters and what comes out."""
        for parameter in (
            QgsProcessingParameterRasterLayer(self.MAP, "Class map"),
            QgsProcessingParameterVectorLayer(self.POLYGONS, "Polygons", [QgsProcessing.TypeVectorPolygon]),
            QgsProcessingParameterFileDestination(self.OUT, "Table", "GeoPackage (*.gpkg)"),
        ):
            self.addParameter(parameter)
        self.addOutput(QgsProcessingOutputVectorLayer("TABLE", "Polygons with columns"))

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the command, and have the table loaded."""
        out = self.parameterAsFileOutput(parameters, self.OUT, context)
        classes = _file(self.parameterAsRasterLayer(parameters, self.MAP, context))
        polygons = _file(self.parameterAsVectorLayer(parameters, self.POLYGONS, context))
        run(["zones", classes, polygons, "-o", out, "--overwrite", "--json"], feedback)
        return {self.OUT: out} | _loaded(context, "TABLE", Path(out).stem, out)


class EvaluateMap(QgsProcessingAlgorithm):
    """`geoseg evaluate` on a class map and labels."""

    MAP, LABELS, COLUMN, OUT = "MAP", "LABELS", "COLUMN", "OUT"

    def createInstance(self) -> EvaluateMap:
        """Called by QGIS."""
        return EvaluateMap()

    def name(self) -> str:
        """In commands."""
        return "evaluatemap"

    def displayName(self) -> str:
        """In the toolbox."""
        return "How good is a map"

    def shortHelpString(self) -> str:
        """Beside the parameters."""
        return "Compares a class map with labelled polygons, lines or points: IoU, F1, precision and recall of each class, as one page."

    def initAlgorithm(self, config: Any = None) -> None:
        """The parameters and what comes out."""
        for parameter in (
            QgsProcessingParameterRasterLayer(self.MAP, "Class map"),
            QgsProcessingParameterVectorLayer(self.LABELS, "Labels"),
            QgsProcessingParameterString(self.COLUMN, "Column of the class (empty: a usual one)", optional=True),
            QgsProcessingParameterFolderDestination(self.OUT, "Folder of the report"),
        ):
            self.addParameter(parameter)
        self.addOutput(QgsProcessingOutputHtml("REPORT", "Report"))

    def processAlgorithm(self, parameters: Any, context: Any, feedback: Any) -> dict[str, Any]:
        """Run the command, and show its page among Processing's results."""
        out = self.parameterAsString(parameters, self.OUT, context)
        classes = _file(self.parameterAsRasterLayer(parameters, self.MAP, context))
        labels = _file(self.parameterAsVectorLayer(parameters, self.LABELS, context))
        words = ["evaluate", classes, "--labels", labels, "-o", out, "--overwrite", "--json"]
        if column := self.parameterAsString(parameters, self.COLUMN, context).strip():
            words += ["--class-column", column]
        return {self.OUT: out, "REPORT": run(words, feedback)["files"]["page"]}


def run(words: list[str], feedback: Any) -> dict[str, Any]:
    """Run geoseg and give its last JSON line; QgsProcessingException with its sentence where it fails or is stopped."""
    command = [*_command(), *words]
    feedback.pushCommandInfo(" ".join(map(shlex.quote, command)))
    told: dict[str, Any] = {}
    said: list[str] = []
    pipes: dict[str, Any] = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(
        command, env=environment(), stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace", **pipes, **_no_window()
    ) as child:
        readers = [
            threading.Thread(target=_read_results, args=(child.stdout, feedback, told)),
            threading.Thread(target=_read, args=(child.stderr, said)),
        ]
        for reader in readers:
            reader.start()
        while child.poll() is None:
            stopped = feedback.isCanceled()
            if stopped:  # geoseg then ends by itself, with nothing half-written
                child.send_signal(signal.SIGINT if os.name != "nt" else signal.SIGTERM)
            try:
                child.wait(_ENDING_S if stopped else _WAIT_S)
            except subprocess.TimeoutExpired:
                continue
        for reader in readers:
            reader.join()
    lines = [line for line in said if line.strip()]
    if child.returncode or "files" not in told:
        raise QgsProcessingException(lines[-1] if lines else f"geoseg ended with exit code {child.returncode}")
    for line in [*lines, *told.get("warnings", [])]:
        feedback.pushWarning(line)
    return told


def environment() -> dict[str, str]:
    """This process's environment without what QGIS has set for itself."""
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN and not name.startswith(("QT_", "DYLD_"))}
    return kept | {"PYTHONIOENCODING": "utf-8"}


def _command() -> list[str]:
    beside = Path(__file__).with_name(COMMAND)
    if beside.exists():
        command: list[str] = json.loads(beside.read_text(encoding="utf-8"))
        if Path(command[0]).exists():
            return command
    found = shutil.which("geoseg")
    if found is None:
        raise QgsProcessingException("There is no geoseg to run; install it (pip install geoseg), and then: geoseg qgis-plugin install")
    return [found]


def _read_results(lines: Any, feedback: Any, told: dict[str, Any]) -> None:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            feedback.pushInfo(line.rstrip())
            continue
        if event.get("event") == "progress" and event.get("total"):
            feedback.setProgress(100 * event["done"] / event["total"])
        elif event.get("event") == "result":
            told.update(event)


def _read(lines: Any, said: list[str]) -> None:
    said.extend(line.rstrip() for line in lines)


def _loaded(context: Any, key: str, name: str, path: str) -> dict[str, str]:
    """The output `key`, which QGIS adds to its project under this name when the algorithm is done."""
    context.addLayerToLoadOnCompletion(path, QgsProcessingContext.LayerDetails(name, context.project(), key))
    return {key: path}


def _file(layer: Any) -> str:
    """The file behind a layer, with the layer's name inside where there are several."""
    return str(layer.source())


def _no_window() -> dict[str, Any]:
    """On Windows a child would open a console."""
    return {"creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0)}
