"""The request ID in a browser: JavaScript may send the header and read it where the application uses CORS at all."""

from __future__ import annotations

import inspect
from typing import Any

from otel_cc import guard, settings


def hook(module: Any) -> None:
    """Extend the header lists of every ``CORSMiddleware`` when it is built; nothing happens per request."""
    cls = module.CORSMiddleware
    original = cls.__init__
    signature = inspect.signature(original)
    header = settings.get().request_id_header

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
            for name in ("allow_headers", "expose_headers"):
                listed = bound.arguments.get(name, ())
                if "*" not in listed and header.lower() not in {entry.lower() for entry in listed}:
                    bound.arguments[name] = [*listed, header]
            args, kwargs = bound.args[1:], bound.kwargs
        except Exception:
            guard.failed("the CORS headers")
        original(self, *args, **kwargs)

    __init__.__wrapped__ = original  # type: ignore[attr-defined]  # what inspect.signature follows
    cls.__init__ = __init__
