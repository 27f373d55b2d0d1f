"""How exports leave: through the official client, and over Python's own http.client where that is all it takes.

The official exporters send through ``requests``, which costs more CPU per export than our encoding of all its spans, and
are written on protobuf: both together are a third of what telemetry adds to a start. For a plain HTTP endpoint (a
collector beside the application) their client, which tries again and compresses, is used without them.
Everything that ``requests`` may be there for (TLS, certificates, proxies, passwords, a session of the user's) stays with it.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies

Signal = Literal["traces", "metrics"]


def enough(signal: Signal) -> bool:
    """Whether the official client, without the official exporter around it, does all that the environment asks for."""
    if getproxies():
        return False
    asked = [
        name for name, value in os.environ.items() if value and name.startswith(("OTEL_EXPORTER_OTLP_", "OTEL_PYTHON_"))
    ]
    if any(name.endswith(("_CERTIFICATE", "_CLIENT_KEY", "_CREDENTIAL_PROVIDER")) for name in asked):
        return False
    if os.environ.get("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "").strip().lower() == "true":
        # Only the official exporters record them.
        return False
    url = endpoint(signal)
    return url.startswith("http://") and not _password(url) and _available()


def endpoint(signal: str) -> str:
    """Where the environment says that a signal goes, or the default of its protocol; gRPC needs no scheme."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}"
    protocol = os.environ.get(f"{own}_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    return (
        os.environ.get(f"{own}_ENDPOINT")
        or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or f"http://localhost:{4317 if protocol.strip() == 'grpc' else 4318}"
    )


def _password(endpoint: str) -> bool:
    """Whether ``requests`` would send a user's name with it: of the URL, or of the file that curl and others read."""
    try:
        parts = urlsplit(endpoint)
        if not parts.hostname or parts.port == 0 or "@" in parts.netloc:
            return True
    except ValueError:
        return True
    for name in (os.environ.get("NETRC") or "", "~/.netrc", "~/_netrc"):
        try:
            if name and re.search(rf"\b{re.escape(parts.hostname)}\b|\bdefault\b", Path(name).expanduser().read_text()):
                return True
        except (OSError, ValueError, RuntimeError):
            continue
    return False


def client(signal: Signal) -> Any:
    """The client that the official exporter of a signal would make of the environment, over a plain transport.

    Endpoint, headers, timeout and compression are read by the official code.
    """
    from opentelemetry.exporter.otlp.common import http
    from opentelemetry.exporter.otlp.proto.http import _common as official

    from otel_cc.otlp.transport import Transport

    prefix = f"OTEL_EXPORTER_OTLP_{signal.upper()}"
    module = {"traces": "trace_exporter", "metrics": "metric_exporter"}[signal]
    return http._OTLPHTTPClient(
        transport=Transport(),
        endpoint=official._resolve_endpoint(f"{prefix}_ENDPOINT", f"v1/{signal}"),  # type: ignore[arg-type]  # one of its two
        kind="spans" if signal == "traces" else "metrics",
        timeout=official._resolve_timeout(f"{prefix}_TIMEOUT"),
        compression=official._resolve_compression(f"{prefix}_COMPRESSION"),
        headers=official._resolve_headers(None, f"{prefix}_HEADERS"),
        # Its own name, so that what users filter or configure by name stays the same.
        logger=logging.getLogger(f"opentelemetry.exporter.otlp.proto.http.{module}"),
    )


_TAKES = {"transport", "endpoint", "kind", "timeout", "compression", "headers", "logger"}
_READS = ("_resolve_endpoint", "_resolve_timeout", "_resolve_compression", "_resolve_headers")


def _available() -> bool:
    """Whether the installed exporters are made of these pieces: since 1.45 they are."""
    try:
        from opentelemetry.exporter.otlp.common import http
        from opentelemetry.exporter.otlp.proto.http import _common as official

        from otel_cc.otlp.transport import Transport  # noqa: F401  whether its base is there

        takes = inspect.signature(http._OTLPHTTPClient.__init__).parameters
        return set(takes) >= _TAKES and all(hasattr(official, name) for name in _READS)
    except Exception:
        return False
