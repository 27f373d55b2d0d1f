"""OTLP as JSON: what Jaeger answers, and the lines that the file exporters of the collector and the SDKs write."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_cc.local.signals import Span, spans_of

# Where JSON has hex digits, the protobuf library wants base64 as in all other bytes.
_IDS = ("traceId", "spanId", "parentSpanId")


class Unreadable(Exception):
    """It is no OTLP JSON; the text says where and why."""


def decode(data: Any) -> list[Span]:
    """The spans of one trace request, ``{"resourceSpans": [...]}``, already parsed from JSON; it is changed in place.

    :raises Unreadable: it is something else
    """
    try:
        for resource_spans in data.get("resourceSpans") or ():
            for scope_spans in resource_spans.get("scopeSpans") or ():
                for span in scope_spans.get("spans") or ():
                    _encode_ids(span)
                    for link in span.get("links") or ():
                        _encode_ids(link)
        request = ExportTraceServiceRequest()
        # The library's own limit on nesting stays: a value of 100 lists in one another is nothing to show.
        ParseDict({"resourceSpans": data.get("resourceSpans") or []}, request, ignore_unknown_fields=True)
        return list(spans_of(request))
    except (ParseError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise Unreadable(f"it is no OTLP JSON ({str(error)[:200] or type(error).__name__})") from None


def _encode_ids(entry: dict[str, Any]) -> None:
    for name in _IDS:
        if isinstance(text := entry.get(name), str):
            entry[name] = b64encode(bytes.fromhex(text)).decode()


def read(files: Iterable[Path], select: Callable[[str], bool] = lambda _line: True) -> Iterator[Span]:
    """The spans of files with one request per line; lines with metrics and logs are passed over.

    :param select: told each line, in lower case: whether it is worth decoding
    :raises Unreadable: a file cannot be read, or has something else in it
    """
    for file in files:
        try:
            with open(file, encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    # The first one always, so that a file of another kind is seen to be one.
                    if line.strip() and (number == 1 or select(line.lower())):
                        yield from _line(line, file, number, last=not line.endswith("\n"))
        except OSError as error:
            raise Unreadable(f"{file} cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise Unreadable(
                f"{file} is no text: the collector's file exporter must write `format: json` without compression."
            ) from None


def _line(line: str, file: Path, number: int, *, last: bool) -> list[Span]:
    try:
        data = json.loads(line)
        if not isinstance(data, dict):
            raise ValueError("no object")
        if data and not any(name.startswith("resource") for name in data):
            raise Unreadable("it is no OTLP JSON (it has no resourceSpans)")
        return decode(data)
    except Unreadable as error:
        raise Unreadable(f"{file}, line {number}: {error}.") from None
    except (ValueError, RecursionError):
        if last and (number > 1 or line.startswith("{")):
            # The exporter is in the middle of it.
            return []
        raise Unreadable(f"{file}, line {number}, is no JSON: each line must be one OTLP request.") from None
