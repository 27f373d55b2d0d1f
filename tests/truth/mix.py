"""The mix: how many requests and tasks of each kind, what the client must see of them, and what they are called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Literal
from uuid import UUID

SEED = 20
REQUESTS = 10_000
TASKS = 2_000

# Of the hostile application: more routes and queues than their bounds allow.
ROUTES = 1_200
QUEUES = 200

HTTP_EXCEPTION = "fastapi.exceptions.HTTPException"
ROUTER_EXCEPTION = "starlette.exceptions.HTTPException"
VALIDATION = "fastapi.exceptions.RequestValidationError"


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    :param count: how many in the mix
    :param path: ``{...}`` is replaced by a number
    :param route: the route template; by default the path; None where there is none
    :param status: what the client must get; None: it leaves before
    :param raised: the exception class that left the application
    :param error: that of the errors metric, None where there was no error
    :param body: of the request, at most, in bytes
    :param end: how the client sees it end
    """

    count: int
    path: str
    method: str = "GET"
    route: str | None = ""
    status: int | None = 200
    raised: str | None = None
    error: str | None = None
    body: int = 0
    chunked: bool = False
    json: str = ""
    version: str = "1.1"
    headers: str = ""
    end: Literal["whole", "breaks", "leaves", "leaves in the middle"] = "whole"

    @property
    def template(self) -> str | None:
        return self.path.partition("?")[0] if self.route == "" else self.route

    @property
    def closes(self) -> bool:
        """Whether the server closes the connection: because an exception arrived there, or a body was not read."""
        return self.raised is not None or self.path in ("/background-fails", "/unread") or self.version == "1.0"


def error(raised: str) -> dict[str, str]:
    return {"raised": raised, "error": raised}


UNHANDLED, HANDLED = "application.Unhandled", "application.Handled"

KINDS: dict[str, Kind] = {
    "async": Kind(1893, "/async"),
    "async 1.0": Kind(20, "/async", version="1.0"),
    "queued": Kind(200, "/async", headers="X-Request-Start: t={now}\r\n"),
    "sync": Kind(900, "/sync"),
    "item": Kind(600, "/items/{n}", route="/items/{number}"),
    "no item": Kind(100, "/items/x{n}", route="/items/{number}", status=422, error=VALIDATION),
    "unknown path": Kind(200, "/unknown/{n}", route=None, status=404, error=ROUTER_EXCEPTION),
    "unknown method": Kind(50, "/async", "PROPFIND", status=405, error=ROUTER_EXCEPTION),
    "wrong method": Kind(100, "/async", "DELETE", status=405, error=ROUTER_EXCEPTION),
    "options": Kind(50, "/async", "OPTIONS", status=405, error=ROUTER_EXCEPTION),
    "head": Kind(50, "/head", "HEAD"),
    "redirected": Kind(20, "/async/", route=None, status=307),
    "missing": Kind(200, "/missing/{n}", route="/missing/{number}", status=404, error=HTTP_EXCEPTION),
    "teapot": Kind(100, "/teapot", status=503, error=HTTP_EXCEPTION),
    "valid": Kind(100, "/validated", "POST", json='{"name": "%s"}', body=200),
    "invalid": Kind(100, "/validated", "POST", json='{"game": "%s"}', body=200, status=422, error=VALIDATION),
    "no JSON": Kind(50, "/validated", "POST", json='{"%s', body=200, status=422, error=VALIDATION),
    "unhandled": Kind(150, "/unhandled", status=500, **error(UNHANDLED)),
    "unhandled sync": Kind(50, "/unhandled-sync", status=500, **error("ValueError")),
    "handled": Kind(100, "/handled", status=503, error=HANDLED),
    "bad gateway": Kind(50, "/plain/502", route="/plain/{status}", status=502, error="502"),
    "plain 404": Kind(50, "/plain/404", route="/plain/{status}", status=404),
    "no content": Kind(50, "/plain/204", route="/plain/{status}", status=204),
    "large": Kind(50, "/large"),
    "stream": Kind(100, "/stream"),
    "broken": Kind(30, "/broken", end="breaks", **error(UNHANDLED)),
    "watched": Kind(20, "/watched", status=None, end="leaves"),
    "unwatched": Kind(20, "/unwatched", status=None, end="leaves"),
    "endless": Kind(20, "/endless", end="leaves in the middle"),
    "background": Kind(100, "/background"),
    "background fails": Kind(30, "/background-fails"),
    "echo": Kind(150, "/echo", "POST", body=20_000),
    "echo chunked": Kind(100, "/echo", "POST", body=20_000, chunked=True),
    "unread": Kind(50, "/unread", "POST", body=20_000),
    "blocks": Kind(5, "/blocks"),
    "included": Kind(100, "/outer/inner/{n}", route="/outer/inner/{leaf}"),
    "mounted": Kind(300, "/tenants/{n}/items/{n}", route="/tenants/{tenant}/items/{number}"),
    "mounted unhandled": Kind(
        50, "/tenants/{n}/unhandled", route="/tenants/{tenant}/unhandled", status=500, **error(UNHANDLED)
    ),
    "mounted missing": Kind(
        50, "/tenants/{n}/missing", route="/tenants/{tenant}/missing", status=404, error=HTTP_EXCEPTION
    ),
    "mounted unknown": Kind(50, "/tenants/{n}/unknown", route="/tenants/{tenant}", status=404, error=ROUTER_EXCEPTION),
    "starlette": Kind(100, "/starlette/{n}", route="/starlette/{leaf}"),
    **{
        f"{engine} {scenario}": Kind(number, f"/sql/{engine}/{scenario}", route=f"/sql/{engine}/{{scenario}}")
        for engine in ("sync", "async")
        for scenario, number in {
            "select": 250,
            "insert": 150,
            "several": 60,
            "batch": 20,
            "roll_back": 60,
            "integrity": 40,
            "deferred": 20,
            "timeout": 10,
            "division": 20,
            "terminate": 5,
        }.items()
    },
    "tight": Kind(10, "/sql/tight"),
    "nowhere": Kind(10, "/sql/nowhere"),
    "deadlock": Kind(4, "/sql/deadlock"),
}


@dataclass(frozen=True)
class Chat:
    """A kind of WebSocket connection.

    :param code: with which it was closed, as the client sees it; None: never opened, the status is ``refused``
    :param says: how many messages the client sends before it closes with ``closes``
    """

    count: int
    path: str
    route: str | None
    code: int | None
    error: str | None = None
    says: int = 0
    closes: int | None = None
    refused: int | None = None


CHATS: dict[str, Chat] = {
    "ws echo": Chat(60, "/ws/echo/{n}", "/ws/echo/{room}", 1000, says=3, closes=1000),
    "ws client's code": Chat(20, "/ws/echo/{n}", "/ws/echo/{room}", 3001, closes=3001),
    "ws going away": Chat(20, "/ws/echo/{n}", "/ws/echo/{room}", 1001, closes=1001),
    "ws server's code": Chat(20, "/ws/closes/4001", "/ws/closes/{code}", 4001),
    "ws mounted": Chat(20, "/tenants/{n}/ws", "/tenants/{tenant}/ws", 1000),
    "ws refused": Chat(20, "/ws/refuses", "/ws/refuses", None, refused=403),
    "ws crashes": Chat(10, "/ws/crashes", "/ws/crashes", 1006, UNHANDLED),
    "ws crashes early": Chat(10, "/ws/crashes-early", "/ws/crashes-early", None, UNHANDLED, refused=500),
    "ws unknown": Chat(20, "/ws/nothing", None, None, refused=403),
}

# How many tasks of each kind are published; by requests, which are part of the mix.
PUBLISHED: dict[str, int] = {
    "succeeds": 1_076,
    "fails": 150,
    "breaks": 50,
    "retries": 100,
    "gives_up": 20,
    "nests": 40,
    "rejects": 60,
    "ignores": 60,
    "exits": 3,
    "soft": 4,
    "hard": 3,
    "sql": 120,
    "expires": 60,
    "eta": 40,
    "revoked": 40,
    "unknown": 60,
    "unreachable": 20,
}
# Those for the worker that loses its children, and that is killed itself in the end.
DEADLY: dict[str, int] = {"succeeds": 86, "dies": 4, "poison": 2}

PUBLISHES: dict[str, Kind] = {
    **{f"publish {name}": Kind(n, f"/publish/{name}", "POST", "/publish/{name}") for name, n in PUBLISHED.items()},
    **{
        f"publish deadly {name}": Kind(n, f"/publish/{name}?queue=deadly", "POST", "/publish/{name}")
        for name, n in DEADLY.items()
    },
}
# Published when the mix is over: those that are ended from outside, and those during which their worker is killed, after
# some that it may have had no time to report.
TERMINATED = 2
LAST = {"succeeds": 10, "waits": 2}
PUBLISHES |= {
    "publish terminated": Kind(0, "/publish/terminated", "POST", "/publish/{name}"),
    "publish last": Kind(0, "/publish/succeeds?queue=deadly", "POST", "/publish/{name}"),
    "publish waits": Kind(0, "/publish/waits?queue=deadly", "POST", "/publish/{name}"),
    "revoke": Kind(0, "/revoke", "POST", "/revoke", json="x"),
    "terminate": Kind(0, "/revoke?terminate=true", "POST", "/revoke", json="x"),
}


@dataclass(frozen=True)
class Planned:
    """One request of the mix."""

    kind: str
    path: str
    body: bytes = b""
    host: str = "truth"


@dataclass
class Mix:
    """Everything that is sent, in a random order that is always the same."""

    planned: list[Planned] = field(default_factory=list)
    revoked: list[str] = field(default_factory=list)


def mix() -> Mix:
    random = Random(SEED)
    made = Mix(revoked=[str(UUID(int=random.getrandbits(128), version=4)) for _ in range(PUBLISHED["revoked"])])
    ids = iter(made.revoked)
    numbers = count(1)

    def plan() -> Iterator[Planned]:
        for name, kind in {**KINDS, **PUBLISHES}.items():
            for _ in range(kind.count):
                path = kind.path.replace("{n}", str(next(numbers)))
                if name == "publish revoked":
                    path = f"/publish/succeeds?task_id={next(ids)}"
                elif name == "publish deadly succeeds":
                    path = "/publish/succeeds?queue=deadly"
                body = b"x" * random.randint(1, kind.body) if kind.body else b""
                if kind.json:
                    body = kind.json.replace("%s", body.decode()).encode()
                yield Planned(name, path, body)
        for name, chat in CHATS.items():
            for _ in range(chat.count):
                yield Planned(name, chat.path.replace("{n}", str(next(numbers))))

    made.planned = list(plan())
    random.shuffle(made.planned)
    return made
