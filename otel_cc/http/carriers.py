"""Puts the HTTP carriers in place: hooks on FastAPI's and Starlette's classes when the application imports them."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from otel_cc import guard, settings
from otel_cc.http import cors, errors, gunicorn, route
from otel_cc.http.asgi import Entrance
from otel_cc.import_hook import on_import

_entrance: Entrance | None = None


def entrance() -> Entrance:
    """The one entrance of this process, which the producer gives its spans to."""
    global _entrance
    if _entrance is None:
        _entrance = Entrance()
    return _entrance


def install() -> None:
    """Hook FastAPI as soon as it is imported; a process that never does pays nothing."""
    if settings.get().response_header:
        on_import("starlette.middleware.cors", cors.hook)
    on_import("starlette.routing", _hook_routes)
    on_import("starlette.middleware.exceptions", _hook_exceptions)
    for hook in (_hook_native_telemetry, _hook_entrance, _hook_handlers):
        on_import("fastapi.applications", hook)
    on_import("fastapi.routing", _hook_route_selected)
    if settings.get().error_body:
        on_import("fastapi._body_limit", _hook_body_limit)
    gunicorn.install()


def _hook_routes(module: Any) -> None:
    module.Mount.handle = route.mount_entered(module.Mount.handle)
    for cls in (module.Route, module.WebSocketRoute):
        cls.handle = route.route_entered(cls.handle)


def _hook_exceptions(module: Any) -> None:
    """Note the exceptions that become responses: by a handler, those of mounted applications too, or in middleware."""
    cls = module.ExceptionMiddleware
    cls.__call__ = errors.noting_unhandled(cls.__call__)
    original = cls.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        try:
            for table in (self._exception_handlers, self._status_handlers):
                table.update({key: errors.noting(handler) for key, handler in table.items()})
        except Exception:
            guard.failed("the handlers of exceptions")

    __init__.__wrapped__ = original  # type: ignore[attr-defined]  # what inspect.signature follows
    cls.__init__ = __init__


def _hook_native_telemetry(module: Any) -> None:
    module.FastAPI.__init__ = _with_native_telemetry_off(module.FastAPI.__init__)


def _hook_entrance(module: Any) -> None:
    module.FastAPI.__call__ = entrance().wrap(module.FastAPI.__call__)


def _hook_handlers(module: Any) -> None:
    module.FastAPI.build_middleware_stack = _with_our_handlers(module.FastAPI.build_middleware_stack)


def _hook_route_selected(module: Any) -> None:
    if hasattr(module, "_route_selected"):
        module._route_selected = route.route_selected(module._route_selected)


def _hook_body_limit(module: Any) -> None:
    # The body limit of FastAPI >= 0.160 calls the default handler by itself, not through the application's table.
    if hasattr(module, "http_exception_handler"):
        module.http_exception_handler = errors.extending(module.http_exception_handler)


def _with_native_telemetry_off(original: Any) -> Any:
    """FastAPI >= 0.142 makes spans of its own as soon as a provider is set; they would double everybody else's.

    An application that asks for them in code (``telemetry={"tracing": True}``) gets them, instead of ours.
    """
    # FastAPI before 0.142 takes the argument as one more of the extras that it keeps.
    accepts = "telemetry" in inspect.signature(original).parameters

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if accepts:
            try:
                off = {"tracing": False, "metrics": False, "logs": False}
                kwargs["telemetry"] = {**off, **(kwargs.get("telemetry") or {})}
            except Exception:
                guard.failed("FastAPI's own telemetry")
        original(self, *args, **kwargs)

    # Tools that read the signature (typer's and FastAPI's own) must see FastAPI's, not ours.
    __init__.__wrapped__ = original  # type: ignore[attr-defined]  # what inspect.signature follows
    return __init__


def _with_our_handlers(original: Any) -> Any:
    def build_middleware_stack(self: Any) -> Any:
        table = self.exception_handlers
        try:
            self.exception_handlers = _handlers(self, table)
        except Exception:
            guard.failed("the error bodies")
        try:
            return original(self)
        finally:
            self.exception_handlers = table

    return build_middleware_stack


def _handlers(app: Any, table: dict[Any, Any]) -> dict[Any, Any]:
    defaults = importlib.import_module("fastapi.exception_handlers")
    own = (defaults.http_exception_handler, defaults.request_validation_exception_handler)
    extends = settings.get().error_body
    handlers = {
        key: errors.extending(handler) if extends and handler in own else handler for key, handler in table.items()
    }
    if extends and not app.debug and 500 not in table and Exception not in table:
        handlers[Exception] = errors.internal_server_error
    return handlers
