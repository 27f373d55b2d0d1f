"""The client of the truth: it sends the mix over a few connections at a time, and counts what it sent and got."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.truth.mix import CHATS, KINDS, PUBLISHES, Chat, Kind, Planned

CONNECTIONS = 16
# A connection is given up after so many requests, so that every server process gets its share.
REQUESTS_PER_CONNECTION = 25
# The client waits so long before it leaves, in seconds.
PATIENCE = 0.05
TIMEOUT = 60

ALL = {**KINDS, **PUBLISHES}


@dataclass
class Tally:
    """What the client saw.

    :ivar answers: by kind and status; None where it left before
    :ivar sent: bytes of bodies, by kind
    :ivar received: bytes of bodies, by kind
    :ivar chats: by kind and close code; the negative status where it was refused
    """

    answers: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    chats: Counter[tuple[str, int]] = field(default_factory=Counter)


class Connection:
    """One connection that is kept as long as the server keeps it."""

    def __init__(self, port: int, tally: Tally) -> None:
        self.port = port
        self.tally = tally
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._requests = 0

    async def close(self) -> None:
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass

    async def send(self, planned: Planned, kind: Kind) -> None:
        tally = self.tally
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
            self._requests = 0
        self._requests += 1
        reader, writer = self._streams
        writer.write(message(planned, kind))
        tally.sent[planned.kind] += len(planned.body)
        if kind.end == "leaves":
            await asyncio.sleep(PATIENCE)
            await self.close()
            tally.answers[planned.kind, None] += 1
            return
        status, headers = await head(reader)
        if kind.end == "leaves in the middle":
            await reader.readexactly(1)
            await self.close()
            tally.answers[planned.kind, status] += 1
            return
        received = 0
        broken = False
        if headers.get("transfer-encoding") == "chunked":
            try:
                while size := int(await reader.readline(), 16):
                    received += len(await reader.readexactly(size))
                    await reader.readexactly(2)
                await reader.readexactly(2)
            except (asyncio.IncompleteReadError, ValueError):
                broken = True
        elif kind.method != "HEAD":
            received = len(await reader.readexactly(int(headers.get("content-length", 0))))
        assert broken == (kind.end == "breaks"), (planned, status)
        tally.answers[planned.kind, status] += 1
        tally.received[planned.kind] += received
        if kind.closes or broken or self._requests >= REQUESTS_PER_CONNECTION:
            await self.close()


def message(planned: Planned, kind: Kind) -> bytes:
    """A request as bytes."""
    headers = kind.headers.replace("{now}", f"{time.time():.3f}")
    body = planned.body
    if kind.chunked:
        headers += "Transfer-Encoding: chunked\r\n"
        half = len(body) // 2
        parts = [part for part in (body[:half], body[half:]) if part]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    elif body:
        headers += f"Content-Length: {len(body)}\r\n"
    if kind.json:
        headers += "Content-Type: application/json\r\n"
    return f"{kind.method} {planned.path} HTTP/{kind.version}\r\nHost: {planned.host}\r\n{headers}\r\n".encode() + body


async def head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers of a response."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in lines if line)
    return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}


async def talk(port: int, planned: Planned, chat: Chat, tally: Tally) -> None:
    """One WebSocket connection."""
    try:
        async with connect(f"ws://127.0.0.1:{port}{planned.path}", compression=None) as websocket:
            for number in range(chat.says):
                await websocket.send(str(number))
                assert await websocket.recv() == str(number)
            if chat.closes is not None:
                await websocket.close(chat.closes)
            else:
                try:
                    await websocket.recv()
                except ConnectionClosed:
                    pass
            tally.chats[planned.kind, websocket.close_code or 0] += 1
    except InvalidStatus as refused:
        tally.chats[planned.kind, -refused.response.status_code] += 1


async def send(port: int, planned: Sequence[Planned], tally: Tally) -> None:
    """Send a mix, some at a time."""
    left = iter(planned)

    async def work() -> None:
        connection = Connection(port, tally)
        before = None
        for one in left:
            if one.kind in CHATS:
                doing = talk(port, one, CHATS[one.kind], tally)
            else:
                doing = connection.send(one, ALL[one.kind])
            try:
                await asyncio.wait_for(doing, TIMEOUT)
            except Exception as error:
                raise AssertionError(f"{one.kind} {one.path[:100]} after {before} failed: {error!r}") from error
            before = one.kind
        await connection.close()

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
