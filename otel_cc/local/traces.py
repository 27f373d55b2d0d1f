"""Traces, made of the spans that were found, and how to find them in files of OTLP JSON lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_cc.context import ATTRIBUTE
from otel_cc.local import otlp_json
from otel_cc.local.lookup import Lookup
from otel_cc.local.signals import Span

# A request ID of these is written by every JSON encoder as it is.
_NEVER_ESCAPED = re.compile(r"[\w.~:-]+", re.ASCII)


@dataclass(frozen=True)
class Trace:
    """All spans that were found of one trace, in order of their start; there is at least one."""

    trace_id: str
    spans: list[Span]

    @property
    def start(self) -> int:
        """Of the first span, in nanoseconds since the epoch."""
        return self.spans[0].start

    @property
    def duration(self) -> float:
        """Seconds from the first start to the last end."""
        return max(max(span.end for span in self.spans) - self.start, 0) / 1e9

    @property
    def services(self) -> list[str]:
        """Which services took part, in order of appearance."""
        return list(dict.fromkeys(span.service for span in self.spans))

    @property
    def request_ids(self) -> list[str]:
        """The request IDs of its spans, in order of appearance."""
        return list(
            dict.fromkeys(str(span.attributes[ATTRIBUTE]) for span in self.spans if ATTRIBUTE in span.attributes)
        )

    @property
    def errors(self) -> int:
        """How many spans failed."""
        return sum(span.status == "ERROR" for span in self.spans)


def group(spans: Iterable[Span]) -> list[Trace]:
    """The traces that the spans belong to, oldest first. A span that was delivered twice is there once."""
    by_trace: dict[str, dict[Any, Span]] = {}
    for span in spans:
        # Both sides of a call may have the same span ID where a tracer shares them.
        by_trace.setdefault(span.trace_id, {}).setdefault((span.span_id, span.kind, span.start), span)
    traces = [Trace(key, sorted(found.values(), key=lambda span: span.start)) for key, found in by_trace.items()]
    return sorted(traces, key=lambda trace: trace.start)


def in_files(files: Sequence[Path], wanted: Lookup) -> list[Trace]:
    """The traces that an ID stands for, in files of OTLP JSON lines.

    :raises Unreadable: a file cannot be read, or has something else in it
    """
    if wanted.trace_id and (found := _of_traces(files, {wanted.trace_id})):
        return found
    if wanted.request_id is None:
        return []
    text = wanted.request_id.lower()
    select = _has(text) if _NEVER_ESCAPED.fullmatch(text) else _everything
    having = {
        span.trace_id for span in otlp_json.read(files, select) if span.attributes.get(ATTRIBUTE) == wanted.request_id
    }
    return _of_traces(files, having) if having else []


def _everything(_line: str) -> bool:
    return True


def _has(*texts: str) -> Callable[[str], bool]:
    return lambda line: any(text in line for text in texts)


def _of_traces(files: Sequence[Path], trace_ids: set[str]) -> list[Trace]:
    return group(span for span in otlp_json.read(files, _has(*trace_ids)) if span.trace_id in trace_ids)
