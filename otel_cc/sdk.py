"""The OpenTelemetry SDK of this process: providers, exporters and processors from the environment.

Each signal is set up by itself, so that a broken option costs one signal and one clear log line, never the application
or its instrumentation. With ``OTEL_CONFIG_FILE`` the SDK configures itself and only what the file left out is added.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.sdk import _configuration as upstream
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

from otel_cc import fork, guard, identity, lifecycle, report, settings
from otel_cc.otlp import client
from otel_cc.otlp import exporters as otlp
from otel_cc.tracing import propagator, sampler
from otel_cc.tracing.id_generator import RequestIdGenerator
from otel_cc.tracing.processor import RequestIdOnSpans

logger = logging.getLogger("otel_cc")

_RATIO_SAMPLERS = {"traceidratio": sampler.ratio, "parentbased_traceidratio": sampler.parent_based_ratio}
_Signal = Literal["traces", "metrics", "logs"]
_SIGNALS: tuple[_Signal, ...] = ("traces", "metrics", "logs")


class OtelCcConfigurator(_OTelSDKConfigurator):
    """Our configurator; the entry point ``opentelemetry_configurator: otel_cc``."""

    def _configure(self, **kwargs: Any) -> None:
        if not settings.get().enabled:
            from otel_cc import disabled

            disabled.configure(**kwargs)
            return
        if os.environ.get("OTEL_CONFIG_FILE", "").strip():
            _from_file(super()._configure)
        else:
            _from_environment(kwargs.get("auto_instrumentation_version"))
        adopt()
        lifecycle.install()


def adopt() -> None:
    """Put our pieces in place in providers that somebody else configured; what the user chose is left alone."""
    propagator.install()
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        if type(provider.id_generator) is RandomIdGenerator and "OTEL_PYTHON_ID_GENERATOR" not in os.environ:
            # The attribute is typed by the SDK's default; any IdGenerator is meant.
            provider.id_generator = RequestIdGenerator()  # type: ignore[assignment]
        provider.sampler = _right_ratio(provider.sampler)
        if not any(isinstance(processor, RequestIdOnSpans) for processor in fork.span_processors(provider)):
            provider.add_span_processor(RequestIdOnSpans())
        for tracer in getattr(provider, "_tracers", {}).values():
            tracer.id_generator, tracer.sampler = provider.id_generator, provider.sampler
    with guard.guarded("the identity of the process"):
        identity.settle()
    for signal in _SIGNALS:
        report.destination(signal, _destination(signal))


def _from_file(configure: Callable[[], None]) -> None:
    try:
        configure()
    except Exception as error:
        _failures.update(dict.fromkeys(_SIGNALS, "nowhere (OTEL_CONFIG_FILE could not be used)"))
        logger.error(
            "OTEL_CONFIG_FILE could not be used (%s): nothing is exported; correct the file or the variable.", error
        )
        if guard.strict():
            raise


def _from_environment(version: str | None) -> None:
    attributes = {"telemetry.auto.version": version} if version else {}
    try:
        resource = Resource.create(attributes)
    except Exception as error:
        logger.error("the resource could not be read (%s): check OTEL_RESOURCE_ATTRIBUTES and the detectors.", error)
        resource = Resource(attributes)

    def traces(exporters: dict[str, Any]) -> None:
        upstream._init_tracing(
            exporters=exporters,
            id_generator=_id_generator(),
            sampler=_sampler(),
            resource=resource,
            export_span_processor=otlp.queue_for,  # type: ignore[arg-type]  # upstream names the argument
        )

    def metrics(exporters: dict[str, Any]) -> None:
        if "prometheus" in exporters:
            from otel_cc.metrics.pull.reader import PullReader

            # First, because a flush goes from one reader to the next and a dead collector uses up the time.
            others = {name: exporter for name, exporter in exporters.items() if name != "prometheus"}
            exporters = {"prometheus": PullReader, **others}
        upstream._init_metrics({name: otlp.measured(kind) for name, kind in exporters.items()}, resource)

    def logs(exporters: dict[str, Any]) -> None:
        handler = os.environ.get("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED", "false").strip().lower() == "true"
        upstream._init_logging(exporters, resource, handler)

    for signal, init in zip(_SIGNALS, (traces, metrics, logs), strict=True):
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        exporters: dict[str, Any] = {}
        try:
            exporters = _exporters(signal)
        except Exception as error:
            hint = " or pip install 'otel-cc[prometheus]'" if "'prometheus'" in str(error) else ""
            protocol = f"OTEL_EXPORTER_OTLP_PROTOCOL or OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL"
            named = f"{variable}={os.environ.get(variable)!r}{hint}"
            _broken(signal, protocol if "protocol" in str(error) else named, error)
        try:
            init(exporters)
        except Exception as error:
            _broken(signal, f"{variable}, another OTEL_{signal.upper()}_* or an OTEL_EXPORTER_* setting", error)


def _exporters(signal: _Signal) -> dict[str, Any]:
    """The exporters that the environment names, in its order."""
    if _sdk_disabled():
        # There is nothing to export, and a page for Prometheus would say so at its port.
        return {}
    names = upstream._get_exporter_names(signal)
    lean = {} if signal == "logs" else otlp.lean(signal, names)
    official: list[list[str]] = [[], [], []]
    index = _SIGNALS.index(signal)
    official[index] = [name for name in names if name not in lean]
    found = {**lean, **upstream._import_exporters(*official)[index]}
    return {name: found[name] for name in names}


def _sdk_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _broken(signal: str, variable: str, error: Exception) -> None:
    _failures[signal] = f"nowhere ({error})"
    logger.error("%s are not exported (%s): correct %s.", signal, error, variable)


_failures: dict[str, str] = {}


def _id_generator() -> Any:
    name = os.environ.get("OTEL_PYTHON_ID_GENERATOR", "").strip()
    if not name:
        return RequestIdGenerator()
    try:
        return upstream._import_id_generator(name)
    except Exception as error:
        logger.error(
            "OTEL_PYTHON_ID_GENERATOR=%r cannot be used (%s): ours is used; correct the variable.", name, error
        )
        return RequestIdGenerator()


def _sampler() -> Sampler | None:
    name = os.environ.get("OTEL_TRACES_SAMPLER", "").strip()
    factory = _RATIO_SAMPLERS.get(name)
    if factory is not None:
        return factory(os.environ.get("OTEL_TRACES_SAMPLER_ARG"))
    found: Sampler | None = upstream._import_sampler(name or None)
    return found


def _right_ratio(present: Sampler) -> Sampler:
    """The same sampler, with the SDK's ratio sampler replaced by ours wherever it is used directly or as the root."""
    if type(present) is TraceIdRatioBased:
        return sampler.RatioSampler(present.rate)
    root = getattr(present, "_root", None)
    if isinstance(present, ParentBased) and type(root) is TraceIdRatioBased:
        present._root = sampler.RatioSampler(root.rate)
    return present


def _destination(signal: str) -> str:
    """Where a signal goes, for the start line; user names and passwords in a URL are left out."""
    if signal in _failures:
        return _failures[signal]
    if os.environ.get("OTEL_CONFIG_FILE", "").strip():
        return f"what {os.environ['OTEL_CONFIG_FILE']} says"
    names = os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip()
    if _sdk_disabled():
        return "nowhere (OTEL_SDK_DISABLED)"
    if not names or names == "none":
        return "nowhere"
    if names != "otlp":
        return names
    endpoint = client.endpoint(signal)
    url = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    try:
        port = f":{url.port}" if url.port else ""
    except ValueError:
        port = ""
    return f"{url.scheme}://{url.hostname or ''}{port}".removeprefix("://")
