"""What a person has in hand when they look for a trace: a request ID, a UUID, a trace ID or a traceparent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from otel_cc import request_id

_HEX32 = re.compile(r"[0-9a-f]{32}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")
_NO_TRACE = "0" * 32

# Of a text that is refused, so much is shown.
_SHOWN = 60


@dataclass(frozen=True)
class Lookup:
    """What to look for: by trace ID first, and when there is no such trace, by request ID.

    :param trace_id: 32 lower-case hex digits, or None when the text cannot be one
    :param request_id: or None when the text is a traceparent, which names its trace and no request
    """

    text: str
    trace_id: str | None
    request_id: str | None


def parse(text: str) -> Lookup:
    """Tell what an ID is.

    :param text: as it was copied: with blanks or quotes around it, or percent-encoded as in a SQL comment
    :raises ValueError: it is none; the text says what would be one
    """
    plain = text.strip().strip("'\"").strip()
    lower = plain.lower()
    if traceparent := _TRACEPARENT.fullmatch(lower):
        found = Lookup(plain, traceparent[1], None)
    else:
        # A UUID of any version: it may be a trace ID that something wrote with dashes.
        trace_id = lower.replace("-", "") if _UUID.fullmatch(lower) or _HEX32.fullmatch(lower) else None
        accepted = request_id.accept(plain if request_id.accept(plain) else unquote(plain, errors="replace"))
        found = Lookup(accepted or plain, trace_id, accepted)
    if found.trace_id == _NO_TRACE:
        found = Lookup(found.text, None, found.request_id)
    if found.trace_id is None and found.request_id is None:
        shown = plain if len(plain) <= _SHOWN else f"{plain[:_SHOWN]}... ({len(plain):,} characters)"
        raise ValueError(
            f"{shown!a} is no ID: give a request ID (1 to {request_id.MAX_LENGTH} letters, digits and ._~:/+=@-, "
            "beginning with a letter or digit), a UUID, a trace ID (32 hex digits) or a traceparent."
        )
    return found
