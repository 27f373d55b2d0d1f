"""Which route holds the event loop: read from the stack of its thread, by another thread."""

from __future__ import annotations

from collections.abc import MutableMapping
from types import FrameType

from otel_cc.http import route
from otel_cc.http.request import KEY, Request

_DEPTH = 400


def route_of_frame(frame: FrameType) -> str | None:
    """The route template of the request that a thread is working on, or None.

    :param frame: the innermost frame of the thread
    """
    # An ASGI application passes the scope down by this name. Its frames are also in tasks of their own, such as
    # BaseHTTPMiddleware starts, where that of our entrance is not.
    here: FrameType | None = frame
    for _ in range(_DEPTH):
        if here is None:
            return None
        code = here.f_code
        if "scope" in code.co_varnames or "scope" in code.co_freevars:
            scope = here.f_locals.get("scope")
            if isinstance(scope, MutableMapping) and isinstance(scope.get(KEY), Request):
                return route.template(scope)
        here = here.f_back
    return None
