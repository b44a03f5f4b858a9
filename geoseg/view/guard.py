"""Who may ask the page's server, and what every answer says to the browser.

A page from elsewhere must not read maps through the browser of whoever looks at them. It could try so with its own name pointed at this
machine (DNS rebinding), which the Host header gives away, or with a plain request, which Origin and Sec-Fetch-Site give away. Beyond this
machine every address begins with a random word, without which nothing is said.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


@dataclass(frozen=True)
class Rules:
    """Whom the server answers."""

    host: str
    """To which it is bound."""
    token: str | None = None
    """First part of every address; None where only this machine can ask."""

    def refusal(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and sentence where a request is not answered."""
        host = headers.get("host", "")
        if method not in ("GET", "HEAD"):
            return 405, "this page only shows; it takes nothing"
        if not self._is_mine(host):
            return 403, "this address is not that of the page; open the one that geoseg view printed"
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return 403, "another page asks; open the address that geoseg view printed"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return 403, "another page asks; open the address that geoseg view printed"
        if self.token is not None and not compare_digest(path.split("/")[1].encode(), self.token.encode()):
            return 403, "the address lacks its random word; open the whole address that geoseg view printed"
        return None

    def _is_mine(self, host: str) -> bool:
        """Whether a Host header names this machine: its own name, or a number, which nobody can point elsewhere."""
        name = host_name(host)
        if name in _LOOPBACK or name == self.host.lower():
            return True
        return self.token is not None and (is_address(name) or name == socket.gethostname().lower())


class Guarded:
    """An application behind the rules, with the random word taken off its addresses."""

    def __init__(self, app: App, rules: Rules) -> None:
        self._app, self._rules = app, rules

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if (refused := self._rules.refusal(scope["method"], scope["path"], headers)) is not None:
            status, sentence = refused
            said = sentence.encode()
            kind = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(said)).encode())]
            await with_headers({"type": "http.response.start", "status": status, "headers": kind})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else said})
            return
        if self._rules.token is not None and scope["path"] == f"/{self._rules.token}":  # or the page would ask for its parts beside it
            where = [(b"location", f"{scope['path']}/".encode()), (b"content-length", b"0")]
            await with_headers({"type": "http.response.start", "status": 308, "headers": where})
            await send({"type": "http.response.body", "body": b""})
            return
        if self._rules.token is not None:
            scope = {**scope, "path": scope["path"].removeprefix(f"/{self._rules.token}")}
        await self._app(scope, receive, with_headers)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that is bound there."""
    return host.lower() == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def is_address(name: str) -> bool:
    """Whether this is a number of the net, not a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def host_name(host: str) -> str:
    """A Host header without its port and brackets, in small letters."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
