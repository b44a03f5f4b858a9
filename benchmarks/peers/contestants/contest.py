"""What all contestants do alike: their arguments, and the line of JSON that they print.

A contestant imports all it needs, then makes a `Contest`: what comes before it counts as importing, what comes after as work.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path


class Contest:
    """Arguments of one run, and its clock."""

    def __init__(self) -> None:
        self.start()
        parser = argparse.ArgumentParser()
        for name in ("scene", "weights", "out"):
            parser.add_argument(f"--{name}", type=Path, required=True)
        parser.add_argument("--threads", type=int, default=1, help="processor threads of the network")
        parser.add_argument("--batch", type=int, default=1, help="windows for one call of the network")
        parser.add_argument("--tile", type=int, help="edge of a window in pixels; as the library chooses where it is not given")
        parser.add_argument("--overlap", type=int, help="pixels that neighbours share; as the library chooses where it is not given")
        parser.add_argument("--runtime", default="onnx", help="geoseg only")
        parser.add_argument("--precision", default="fp32", help="geoseg only")
        given = parser.parse_args()
        self.scene, self.weights, self.out = str(given.scene), given.weights, str(given.out)
        self.threads: int = given.threads
        self.batch: int = given.batch
        self.tile: int | None = given.tile
        self.overlap: int | None = given.overlap
        self.runtime, self.precision = str(given.runtime), str(given.precision)
        self.windows = 0
        """To be counted by the contestant."""

    def start(self) -> None:
        """Start the clock (again): all that was done until now was importing."""
        self.import_cpu_s = time.process_time()
        self._began = time.perf_counter()

    def finish(self, **others: float) -> None:
        """Print the result; `others` replace or join its figures."""
        figures = {"cpu_s": time.process_time() - self.import_cpu_s, "wall_s": time.perf_counter() - self._began}
        print(json.dumps({"import_cpu_s": self.import_cpu_s, **figures, "windows": self.windows, **others}))
