"""The distribution: which defaults hold, which instrumentors load, and that a failing one costs only itself."""

# The first statement, before anything imports ssl, threading-using libraries or the SDK: a gevent or eventlet worker
# whose monkey patch comes later never runs a task (opentelemetry-python-contrib #3699).
import os
import sys

from otel_cc.celery.greenlets import patch_green_pools  # isort: skip

patch_green_pools(getattr(sys, "orig_argv", sys.argv))

# Before anything imports the SDK.
from otel_cc import sdk_variables  # noqa: E402

sdk_variables.correct(os.environ)

import importlib  # noqa: E402
import logging  # noqa: E402
from typing import Any  # noqa: E402

from opentelemetry.instrumentation.dependencies import DependencyConflictError  # noqa: E402
from opentelemetry.instrumentation.distro import BaseDistro  # noqa: E402
from opentelemetry.util._importlib_metadata import EntryPoint, entry_points  # noqa: E402

from otel_cc import guard, lifecycle, report, settings  # noqa: E402
from otel_cc.metrics.catalogue import CATALOGUE  # noqa: E402

logger = logging.getLogger("otel_cc")

# Ours win over what opentelemetry-distro would set; what the user set wins over both.
DEFAULTS = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_METRICS_EXPORTER": "otlp",
    # gRPC channels do not survive a fork.
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    # A dead worker must be noticed within 30 s; the SDK's 60 s is too slow for that.
    "OTEL_METRIC_EXPORT_INTERVAL": "15000",
    # Contrib still defaults to the old conventions, whose names no dashboard of ours queries.
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http,database",
    # For the children of this process, which may be started without a launcher.
    **settings.CHOICE,
}

# Contrib's instrumentors that ours replace (or load themselves, with OTEL_CC_INSTRUMENTATION=contrib).
REPLACED = {"fastapi": "otel_cc_fastapi", "sqlalchemy": "otel_cc_sqlalchemy", "celery": "otel_cc_celery"}

_state = {"configured": False}


class OtelCcDistro(BaseDistro):
    """Our distro; the entry point ``opentelemetry_distro: otel_cc``."""

    _delegate: BaseDistro | None = None

    def _configure(self, **kwargs: Any) -> None:
        if not settings.get().enabled:
            from otel_cc import disabled

            self._delegate = disabled.distro()
            self._delegate.configure(**kwargs)
            return
        logging.getLogger("opentelemetry.instrumentation.auto_instrumentation._load").addFilter(_not_because_of_us)
        if is_helper(getattr(sys, "orig_argv", sys.argv)):
            # Nothing is loaded in a helper, so it costs nothing and exports nothing.
            os.environ.update(dict.fromkeys(_EXPORTERS, "none"))
            os.environ["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = "*"
            return
        for name, value in DEFAULTS.items():
            # To OpenTelemetry an empty variable is one that is not set.
            if not os.environ.get(name, "").strip():
                os.environ[name] = value
        for problem in settings.get().problems:
            logger.warning("%s", problem)
        install_carriers()
        _state["configured"] = True

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        if self._delegate is not None:
            self._delegate.load_instrumentor(entry_point, **kwargs)
        else:
            load_instrumentor(entry_point, **kwargs)


_EXPORTERS = ("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER")


_CONFIGURATOR_NOT_LOADED = "Configuration of configurator not loaded"


def _not_because_of_us(record: logging.LogRecord) -> bool:
    """Whether a complaint of upstream's is about anything but our being there.

    An instrumentor that we replace refuses the installed version, or the configurator of opentelemetry-distro was not
    loaded because ours was.
    """
    message = record.getMessage()
    return message.split(" ", 1)[0] not in REPLACED and not message.startswith(_CONFIGURATOR_NOT_LOADED)


def is_helper(argv: list[str]) -> bool:
    """Whether a command line is that of a helper process of Python's own, which never runs the application."""
    return any("multiprocessing.resource_tracker" in word for word in argv[1:])


def load_instrumentor(entry_point: EntryPoint, **kwargs: Any) -> None:
    """Load one instrumentor; a failing one is reported and costs only itself."""
    name = entry_point.name
    if name in REPLACED:
        return
    if name.removeprefix("otel_cc_") in _disabled():
        report.skipped(name.removeprefix("otel_cc_"), "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS")
        return
    try:
        instrumentor = entry_point.load()()
        if name == "system_metrics":
            # It counts the whole host, from every process: at least not from supervisors. What it would tell of the
            # process, we tell already, under the same names.
            config = getattr(instrumentor, "_config", None)
            if isinstance(config, dict):
                instrumentor._config = {key: value for key, value in config.items() if key not in CATALOGUE}
            lifecycle.when_serving(lambda: instrumentor.instrument(**kwargs))
        else:
            instrumentor.instrument(**kwargs)
        if not name.startswith("otel_cc_"):
            report.instrumented(name, "contrib")
    except ModuleNotFoundError as error:
        if name in REPLACED.values():
            report.skipped(name.removeprefix("otel_cc_"), f"{error.name} is not installed")
    except DependencyConflictError as error:
        report.skipped(name, str(error.conflict))
    except Exception as error:
        name = name.removeprefix("otel_cc_")
        report.skipped(name, f"it failed: {error}")
        logger.exception(
            "the instrumentor %s failed and is skipped: correct it, or name %s in OTEL_PYTHON_DISABLED_INSTRUMENTATIONS.",
            name,
            name,
        )
        if guard.strict():
            raise


def _disabled() -> set[str]:
    return {word.strip() for word in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")}


def install_carriers() -> None:
    """What brings the request ID out works in every mode, also where no spans are made."""
    for name in ("otel_cc.logs", "otel_cc.http.carriers", "otel_cc.sql.carriers", "otel_cc.celery.carriers"):
        try:
            importlib.import_module(name).install()
        except Exception:
            guard.failed(f"the carriers of {name}")


def pre_instrument() -> None:
    """Finish the job where another distro was loaded: injected by PYTHONPATH there is no launcher to choose ours.

    The entry point ``opentelemetry_pre_instrument`` runs whichever distro won.
    """
    if _state["configured"] or not settings.get().enabled or is_helper(getattr(sys, "orig_argv", sys.argv)):
        return
    from otel_cc import sdk

    OtelCcDistro().configure()
    sdk.adopt()
    lifecycle.install()
    for entry_point in entry_points(group="opentelemetry_distro"):
        if entry_point.name != "otel_cc":
            # The loop that loads the instrumentors holds an instance of this class already.
            winner = entry_point.load()
            winner.load_instrumentor = lambda _, instrumentor, **kwargs: load_instrumentor(instrumentor, **kwargs)
