"""How exports leave: over urllib3, where that is all it takes.

The official exporters send through ``requests``, which costs more CPU per export than our encoding of all its spans, and
93 modules at every start. They bring a transport over urllib3 alone, which is used for a plain HTTP endpoint: a
collector beside the application. Everything that ``requests`` may be there for (TLS, certificates, proxies, a session
of the user's) stays with it.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from typing import Any
from urllib.request import getproxies

from otel_cc import guard


def lean(exporters: Mapping[str, type], signal: str) -> dict[Any, dict[str, Any]]:
    """The arguments that give official OTLP/HTTP exporters the light transport; empty where it does not apply.

    :param exporters: the exporter classes of one signal, by name
    :param signal: "traces" or "metrics"
    """
    try:
        return {kind: {"_transport": _urllib3()} for kind in exporters.values() if _applies(kind, signal)}
    except Exception:
        guard.warn_once("transport", "exports go over requests: the transport over urllib3 could not be loaded.")
        return {}


def _applies(kind: type, signal: str) -> bool:
    if not kind.__module__.startswith("opentelemetry.exporter.otlp.proto.http"):
        return False
    if "_transport" not in inspect.signature(kind.__init__).parameters or getproxies():  # type: ignore[misc]  # read only
        return False
    asked = [
        name for name, value in os.environ.items() if value and name.startswith(("OTEL_EXPORTER_OTLP_", "OTEL_PYTHON_"))
    ]
    if any(name.endswith(("_CERTIFICATE", "_CLIENT_KEY", "_CREDENTIAL_PROVIDER")) for name in asked):
        return False
    endpoint = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or os.environ.get(
        "OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    return not endpoint or endpoint.strip().startswith("http://")


def _urllib3() -> Any:
    # The module itself: the package around it would import the transport over requests, too.
    from opentelemetry.exporter.http.transport._urllib3 import Urllib3HTTPTransport

    return Urllib3HTTPTransport()
