"""The loopback OTLP sink: a process of its own that answers 200 and keeps the bodies until somebody asks.

It is dumb on purpose: its work is not the measured process's, but it shares the machine. Spans are counted only when
``GET .../taken`` asks, which the measured processes do outside of their measured windows.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import defaultdict
from typing import ClassVar

_OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


class Sink(asyncio.Protocol):
    """One connection; HTTP/1.1 with keep-alive and Content-Length, which is what the exporters send.

    Each measured process has a path of its own: ``POST /<name>/v1/traces`` and ``GET /<name>/taken``.
    """

    bodies: ClassVar[defaultdict[bytes, list[tuple[bool, bytes]]]] = defaultdict(list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            length = _length(head)
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            self._transport.write(self._answer(head, body))  # type: ignore[attr-defined]  # a TCP transport

    def _answer(self, head: bytes, body: bytes) -> bytes:
        name, _, what = head.split(b" ", 2)[1].removeprefix(b"/").partition(b"/")
        if what == b"v1/traces":
            self.bodies[name].append((b"content-encoding: gzip" in head, body))
        if what != b"taken":
            return _OK
        text = json.dumps(taken(self.bodies.pop(name, []))).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text) + text


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def taken(bodies: list[tuple[bool, bytes]]) -> dict[str, int]:
    """The number of spans in export requests, how many of them are distinct, and their size on the wire."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = 0
    distinct = set()
    for compressed, body in bodies:
        request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if compressed else body)
        for scope in (scope for resource in request.resource_spans for scope in resource.scope_spans):
            spans += len(scope.spans)
            distinct.update(span.trace_id + span.span_id for span in scope.spans)
    return {"spans": spans, "distinct": len(distinct), "bytes": sum(len(body) for _, body in bodies)}


async def serve() -> None:
    """Listen on a free port, print it, and run until a signal ends the process."""
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve())
