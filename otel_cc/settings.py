"""Every setting of ours, in one table: variable, kind, default and one sentence.

The user's ``OTEL_*`` variables are not here: they belong to OpenTelemetry and always win. A value that cannot be
understood is never fatal: the default is used and :attr:`Settings.problems` has one sentence for the log.
docs/settings.md is generated from this table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import ipaddress

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network


# Named tuples, because making a dataclass takes a millisecond, and the launcher and the application load this.
class Setting(NamedTuple):
    """One variable.

    :param variable: the environment variable
    :param field: the attribute of :class:`Settings` it becomes
    :param default: the value, as one would write it in the environment
    :param parse: text to value; raises ValueError with what is accepted
    :param accepts: what the reader may write
    :param text: one sentence
    :param instead: what a value that is not understood counts as; the default, unless that would be unsafe
    """

    variable: str
    field: str
    default: str
    parse: Callable[[str], Any]
    accepts: str
    text: str
    instead: str | None = None


FALSE = ("false", "0", "no", "off")


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "on"):
        return True
    if text.lower() in FALSE:
        return False
    raise ValueError(text)


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(text)
        return text.lower()

    return parse


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise ValueError(text)
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError(text)
    return value


# https://www.rfc-editor.org/rfc/rfc9110#name-tokens
_HEADER = set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def _header(text: str) -> str:
    if not 1 <= len(text) <= 64 or set(text) - _HEADER:
        raise ValueError(text)
    return text


def _trust(text: str) -> bool | tuple[Network, ...]:
    if text.lower() in ("always", "never"):
        return text.lower() == "always"
    import ipaddress

    return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(","))


SETTINGS: tuple[Setting, ...] = (
    Setting("OTEL_CC_ENABLED", "enabled", "true", _boolean, "true or false",
            "Switches everything of ours off at once: the application then behaves as if otel-cc were not installed."),
    Setting("OTEL_CC_INSTRUMENTATION", "instrumentation", "own", _one_of("own", "contrib"), "own or contrib",
            "Who makes the spans of FastAPI, SQLAlchemy and Celery: our thin instrumentors, or the untouched contrib "
            "packages with only our carriers on top."),
    Setting("OTEL_CC_REQUEST_ID_HEADER", "request_id_header", "X-Request-ID", _header, "an HTTP header name",
            "The header that brings the request ID in and takes it out."),
    Setting("OTEL_CC_TRUST_INBOUND", "trust_inbound", "always", _trust, "always, never, or networks such as 10.0.0.0/8,::1",
            "From which clients the request ID, the trace context and the proxy's time of a request are taken; others get "
            "new IDs.",
            # Somebody who names networks does not want everybody.
            instead="never"),
    Setting("OTEL_CC_RESPONSE_HEADER_ENABLED", "response_header", "true", _boolean, "true or false",
            "Writes the request ID into every response, and exposes it to browsers where CORS is on."),
    Setting("OTEL_CC_ERROR_BODY_ENABLED", "error_body", "true", _boolean, "true or false",
            "Adds request_id to the error bodies that FastAPI itself produces."),
    Setting("OTEL_CC_LOG_FIELDS_ENABLED", "log_fields", "true", _boolean, "true or false",
            "Puts request_id, trace_id and span_id on every log record."),
    Setting("OTEL_CC_LOG_FORMAT", "log_format", "keep", _one_of("keep", "text", "json"), "keep, text or json",
            "keep leaves the application's log format alone; text and json write every record in one format with the IDs."),
    Setting("OTEL_CC_SQL_COMMENT", "sql_comment", "auto", _one_of("auto", "always", "off"), "auto, always or off",
            "Which statements get the comment: auto sends it where it is free and elsewhere within the budget."),
    Setting("OTEL_CC_SQL_COMMENT_BUDGET", "sql_comment_budget", "0.03", _share, "a share between 0 and 1",
            "The share of a statement's expected time that its comment may cost when OTEL_CC_SQL_COMMENT=auto."),
    Setting("OTEL_CC_CELERY_HEADERS_ENABLED", "celery_headers", "true", _boolean, "true or false",
            "Writes the request ID and the trace context into the headers of Celery messages."),
    Setting("OTEL_CC_CELERY_MONITOR_ENABLED", "celery_monitor", "true", _boolean, "true or false",
            "Reads the depth of the Celery queues and counts the workers over a connection of its own: in workers, in beat, "
            "and in processes that publish tasks, of which one on a machine does it."),
    Setting("OTEL_CC_OUTGOING_ENABLED", "outgoing", "true", _boolean, "true or false",
            "Adds the request ID to outgoing calls of instrumented clients, beside the trace context."),
    Setting("OTEL_CC_FLUSH_TIMEOUT", "flush_timeout", "3", _seconds, "seconds, 0 to 3600",
            "How long a Celery pool child may take to deliver its telemetry before it exits."),
    Setting("OTEL_CC_SHUTDOWN_TIMEOUT", "shutdown_timeout", "5", _seconds, "seconds, 0 to 3600",
            "How long a process may take to deliver its telemetry at its end, for all signals together."),
    Setting("OTEL_CC_STATUS_DIR", "status_dir", "", str, "a folder, or off",
            "Where each process writes what was instrumented, for otel-cc status; empty means a folder of the user's below "
            "the temporary directory, and off writes no status."),
)  # fmt: skip


# With what an application is told to load our distro and configurator; the names are those of our entry points.
CHOICE = {"OTEL_PYTHON_DISTRO": "otel_cc", "OTEL_PYTHON_CONFIGURATOR": "otel_cc"}


class Settings(NamedTuple):
    """The settings of this process; :func:`get` reads them once."""

    enabled: bool
    instrumentation: str
    request_id_header: str
    trust_inbound: bool | tuple[Network, ...]
    response_header: bool
    error_body: bool
    log_fields: bool
    log_format: str
    sql_comment: str
    sql_comment_budget: float
    celery_headers: bool
    celery_monitor: bool
    outgoing: bool
    flush_timeout: float
    shutdown_timeout: float
    status_dir: str
    problems: tuple[str, ...] = ()


def load(environ: Mapping[str, str]) -> Settings:
    """Read the settings from an environment; an empty variable counts as unset."""
    values: dict[str, Any] = {}
    problems = []
    for setting in SETTINGS:
        text = environ.get(setting.variable, "").strip()
        try:
            values[setting.field] = setting.parse(text or setting.default)
        except ValueError:
            instead = setting.default if setting.instead is None else setting.instead
            problems.append(
                f"{setting.variable}={text!r} is not understood, {instead!r} is used instead: write {setting.accepts}."
            )
            values[setting.field] = setting.parse(instead)
    known = {setting.variable for setting in SETTINGS} | ELSEWHERE | INTERNAL
    problems += [
        f"{name} is not a setting of otel-cc and is ignored: see docs/settings.md for the names."
        for name in sorted(environ)
        if name.startswith("OTEL_CC_") and name not in known
    ]
    return Settings(**values, problems=tuple(problems))


# Not settings of the application, which may share its environment with what they are for: the local stack
# (local/programs.py), `otel-cc trace`, and the configurations of the collector and Jaeger (collector/).
ELSEWHERE = frozenset({
    "OTEL_CC_PROGRAMS", "OTEL_CC_JAEGER_URL", "OTEL_CC_COLLECTOR_ADMIN_HOST", "OTEL_CC_COLLECTOR_GRPC_PORT",
    "OTEL_CC_COLLECTOR_HEALTH_PORT", "OTEL_CC_COLLECTOR_HOST", "OTEL_CC_COLLECTOR_HTTP_PORT",
    "OTEL_CC_COLLECTOR_MEMORY_MIB", "OTEL_CC_COLLECTOR_METRICS_PORT", "OTEL_CC_COLLECTOR_PULL_PORT",
    "OTEL_CC_COLLECTOR_STATE", "OTEL_CC_COLLECTOR_TLS", "OTEL_CC_COLLECTOR_TOKEN_FILE", "OTEL_CC_GATEWAY_CA",
    "OTEL_CC_GATEWAY_TOKEN_FILE", "OTEL_CC_GATEWAY_URL", "OTEL_CC_HOST_INTERVAL", "OTEL_CC_HOST_NAME",
    "OTEL_CC_HOST_ROOT", "OTEL_CC_JAEGER_GRPC_PORT", "OTEL_CC_JAEGER_HEALTH_PORT", "OTEL_CC_JAEGER_HOST",
    "OTEL_CC_JAEGER_METRICS_PORT", "OTEL_CC_JAEGER_OTLP_PORT", "OTEL_CC_JAEGER_PORT", "OTEL_CC_JAEGER_STATE",
    "OTEL_CC_LOGS_URL", "OTEL_CC_POSTGRES_LOGS", "OTEL_CC_PROMETHEUS_URL", "OTEL_CC_QUEUE_BYTES",
    "OTEL_CC_RETRY_MAX_INTERVAL", "OTEL_CC_TAIL_PERCENT", "OTEL_CC_TAIL_WAIT", "OTEL_CC_TRACES_URL",
})  # fmt: skip
# OTEL_CC_STRICT belongs to the tests (guard.py), OTEL_CC_METRICS_RUN to the processes of one start
# (metrics/pull/reader.py).
INTERNAL = frozenset({"OTEL_CC_STRICT", "OTEL_CC_METRICS_RUN"})


@cache
def get() -> Settings:
    """The settings of this process."""
    return load(os.environ)
