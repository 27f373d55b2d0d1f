"""Which process telemetry is of: ``service.instance.id`` must differ between the processes of one server.

What the user sets is the same for all of them, and is set often: OpenTelemetry's operator for Kubernetes writes it into
OTEL_RESOURCE_ATTRIBUTES of each container. Cumulative values of one identity overwrite each other in the backend, so a
process that another one has started to share its work appends its number. The SDK instead gives forked children a random
identity, and spawned ones that of their parent.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk.resources import Resource, ServiceInstanceIdResourceDetector

_ID = "service.instance.id"
# What the user has set, without the number of a process.
_users: str | None = None


def settle() -> None:
    """Make the identity that the user has set one of this process; call it when the providers are set."""
    global _users
    own = ServiceInstanceIdResourceDetector().detect().attributes[_ID]
    for provider in _providers():
        found = _resource(provider).attributes.get(_ID)
        if found is None:
            # A file of OTEL_CONFIG_FILE has one only where it asks for it.
            provider._update_resource(Resource({_ID: own}))
        elif found != own:
            _users = str(found)
    # multiprocessing tells a process later than this that it has a parent.
    if "--multiprocessing-fork" in sys.orig_argv:
        after_fork()


def after_fork() -> None:
    """Make it one of this process, which is a child; call it after the SDK's own repair."""
    if _users is None:
        return
    own = Resource({_ID: f"{_users}.{os.getpid()}"})
    for provider in _providers():
        provider._update_resource(own)


def _providers() -> list[Any]:
    """Those of the SDK."""
    all_of_them = trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()
    return [provider for provider in all_of_them if hasattr(provider, "_update_resource")]


def _resource(provider: Any) -> Resource:
    # A meter provider has no such property.
    found: Resource = getattr(provider, "resource", None) or provider._sdk_config.resource
    return found
