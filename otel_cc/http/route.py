"""Which route serves a request: the full template, through included routers and mounted applications.

FastAPI leaves the route in the scope, but not its mounts' templates, and since included routers are resolved late
(0.140) not the prefix either; ``fastapi.routing._route_selected``, where it exists, is told both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_cc import context, guard
from otel_cc.http.messages import Scope

_ROUTE = "otel_cc.route"
_MOUNTS = "otel_cc.mounts"
_NEXT_MOUNT = "otel_cc.next_mount"


def template(scope: Scope) -> str | None:
    """The route template of a request ("/tenants/{tenant}/items/{id}"), or None before routing and for unknown paths.

    :param scope: the ASGI scope as the router left it
    """
    path = scope.get(_ROUTE)
    if path is None:
        route = scope.get("route")
        path = getattr(route, "path_format", None) or getattr(route, "path", None)
    mounts: str | None = scope.get(_MOUNTS)
    if mounts is None:
        return path
    # Inside a mount the route is the mount's own until the inner router has chosen one.
    return mounts + path if path is not None else mounts or "/"


def _found_in(scope: Scope) -> None:
    """Tell the request where its route is: middleware may hand on a copy of the scope, as ASGI advises."""
    request = scope.get(context.SCOPE_KEY)
    # An endpoint that has one already may call the application itself, with copies of its own.
    if request is not None and _ROUTE not in request.scope and "route" not in request.scope:
        request.scope = scope


def route_selected(original: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in for ``fastapi.routing._route_selected`` that notes the template in the scope."""

    # It is FastAPI's own and may take more one day.
    def selected(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        try:
            scope, path = kwargs["scope"], kwargs["path"]
            _found_in(scope)
            if path is not None:
                # A mount's path_format ends in /{path}; the mount itself reports its part when it is entered.
                if kwargs.get("mount"):
                    scope[_NEXT_MOUNT] = path.removesuffix("/{path}")
                else:
                    scope[_ROUTE] = path
        except Exception:
            guard.failed("the route of a request")
        return result

    return selected


def mount_entered(original: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in for ``starlette.routing.Mount.handle`` that notes the mount's template in the scope."""

    def handle(self: Any, scope: Scope, receive: Any, send: Any) -> Any:
        try:
            _found_in(scope)
            scope[_MOUNTS] = scope.get(_MOUNTS, "") + scope.pop(_NEXT_MOUNT, self.path)
            scope.pop("route", None)
            scope.pop(_ROUTE, None)
        except Exception:
            guard.failed("the mount of a request")
        return original(self, scope, receive, send)

    return handle


def route_entered(original: Callable[..., Any]) -> Callable[..., Any]:
    """A stand-in for ``starlette.routing.Route.handle``: older routers of Starlette do not name the route."""

    def handle(self: Any, scope: Scope, receive: Any, send: Any) -> Any:
        _found_in(scope)
        scope.setdefault("route", self)
        return original(self, scope, receive, send)

    return handle
