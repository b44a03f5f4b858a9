"""A server of files for the tests, whole or by ranges of bytes, that fails where it is told to; a process of its own, since rasterio
keeps other threads of its process waiting while it fetches."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen


class FailingServer:
    """How the tests speak with the server."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}/"

    def path(self, name: str) -> str:
        """How GDAL opens this file of the folder."""
        return f"/vsicurl/{self._address}{name}"

    def fail(self, requests: int, how: int | str) -> None:
        """Let so many of the next requests fail, with this status or by `drop`ping the line."""
        urlopen(Request(self._address, json.dumps({"failing": requests, "how": how}).encode()), timeout=20).close()

    def state(self) -> dict[str, Any]:
        """`failing`: how many requests are still to fail; `asked`: the names of all files asked for, in order."""
        with urlopen(Request(self._address, b"{}"), timeout=20) as answer:
            state: dict[str, Any] = json.load(answer)
        return state


@contextmanager
def serving(folder: Path) -> Iterator[FailingServer]:
    """A server of the files in this folder, on this machine alone."""
    with subprocess.Popen([sys.executable, "-S", __file__, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield FailingServer(int(process.stdout.readline()))
        finally:
            process.kill()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.told: dict[str, Any] = {"failing": 0, "how": 503}
        self.asked: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A line that the other side closed is nothing to tell."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        self.server.told |= json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(200, json.dumps(self.server.told | {"asked": self.server.asked}).encode(), {})

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        told, name = self.server.told, self.path.lstrip("/")
        self.server.asked.append(name)
        if told["failing"] > 0:
            told["failing"] -= 1
            self.close_connection = told["how"] == "drop"
            if not self.close_connection:
                self._send(told["how"], b"", {})
            return
        if not (self.server.folder / name).is_file():
            self._send(404, b"", {})
            return
        data = (self.server.folder / name).read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self._send(200, data, {"Accept-Ranges": "bytes"}, body=body)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
        self._send(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"}, body=body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool = True) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)


if __name__ == "__main__":
    server = _Server(Path(sys.argv[1]))
    print(server.server_port, flush=True)
    server.serve_forever()
