"""Queues and workers seen from outside of the workers, so that they are still reported when every worker is dead.

No program has to be started for it: a daemon thread looks, in whatever long-lived process knows the application: the
main process of a worker, beat, any process that has published a task, and one that serves requests. Of those on a machine
one at a time does it for each queue (claims.py), and another takes over within one interval when it ends. It has a
connection of its own and asks once in 15 s, so the application waits for nothing; a broker that does not answer makes a
gap, never an old number.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any
from weakref import WeakSet

from opentelemetry import context as otel_context
from opentelemetry import metrics as otel_metrics
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_cc import fork, guard, lifecycle, settings
from otel_cc.celery import broker, queue_gauges, queues
from otel_cc.celery.claims import Claims
from otel_cc.celery.listener import Listener

# Seconds: between two looks at the queues and two tries to take over, between two counts of the workers, the age at which
# a number is no longer shown, and how long a process must live after it began to publish or to serve to be worth a connection.
INTERVAL = 15.0
LISTEN = 5.0
STALE = 60.0
PATIENCE = 5.0
# Brokers that a process looks at: each is a thread and a connection.
MOST = 16

_PLACE = "the monitor of the Celery queues"

_monitors: dict[str, Monitor] = {}
_asked: WeakSet[Any] = WeakSet()
_worker: int | None = None
# For the monitors and their applications; never held while Celery or a broker is asked.
_lock = threading.Lock()


class Monitor(threading.Thread):
    """Looks at one broker, as long as there is an application of it.

    :param app: the first application
    :param identity: of the broker
    :param connection: kombu's, not connected
    :param delay: seconds to wait before anything
    """

    def __init__(self, app: Any, identity: str, system: str, connection: Any, delay: float) -> None:
        super().__init__(name="otel-cc-celery-monitor", daemon=True)
        self.system = system
        # Not kept alive: a process may make an application for each of its customers.
        self.apps = WeakSet([app])
        # Those who send their heartbeats elsewhere are heard by others.
        self._workers_claim = f"the workers at {app.conf.event_exchange}"
        self._identity = identity
        self._connection = connection
        self._claims = Claims(identity)
        self._delay = delay
        self.forget()

    def forget(self) -> None:
        """Show nothing."""
        self._depths: dict[str, queues.Depth] = {}
        self._workers: int | None = None
        self._seen: float | None = None
        self._looked = self._counted = 0.0

    @property
    def depths(self) -> dict[str, queues.Depth]:
        """What waits in the queues that this process looks at, unless that is too old."""
        return self._depths if time.monotonic() - self._looked < STALE else {}

    @property
    def workers(self) -> int | None:
        """How many workers live, or None when this process does not know."""
        return self._workers if time.monotonic() - self._counted < STALE else None

    @property
    def seen(self) -> float | None:
        """When the broker was read, in Unix time, or None when this process does not do it."""
        return self._seen

    def run(self) -> None:
        otel_context.attach(otel_context.Context())
        with suppress_instrumentation():
            time.sleep(self._delay)
            while not self._over():
                time.sleep(self._turn())

    def _turn(self) -> float:
        """Look for as long as it goes well; return after how many seconds to try again."""
        from kombu.exceptions import OperationalError

        errors = (OSError, OperationalError, *self._connection.connection_errors, *self._connection.channel_errors)
        try:
            if self._mine():
                self._watch()
            self._failures = 0
            return INTERVAL
        except errors as error:
            guard.warn_once(
                _PLACE,
                "the Celery broker cannot be read, so there are no metrics of its queues (%s): "
                "check broker_url, or set OTEL_CC_CELERY_MONITOR_ENABLED=false.",
                broker.printable(error),
            )
        except Exception:
            guard.failed(_PLACE)
        finally:
            self.forget()
            # Somebody else may have more luck.
            self._claims.release()
        self._failures += 1
        return min(INTERVAL / 8 * 2.0**self._failures, 2 * INTERVAL)

    _failures = 0

    def _over(self) -> bool:
        """Whether the last application is gone, and with it this monitor."""
        with _lock:
            if self.apps:
                return False
            if _monitors.get(self._identity) is self:
                del _monitors[self._identity]
            return True

    def _mine(self) -> list[str]:
        """What this process is the one for: names of queues, and the workers."""
        with _lock:
            apps = list(self.apps)
        if not apps:
            return []
        known = queues.names([queue for app in apps for queue in list(dict.values(app.amqp.queues))])
        return [name for name in (self._workers_claim, *known) if self._claims.take(name)]

    def _listener(self, connection: Any) -> Listener | None:
        with _lock:
            app = next(iter(self.apps), None)
        return None if app is None else Listener(app.events.Receiver, connection, self.system)

    def _watch(self) -> None:
        with self._connection.clone() as connection:
            connection.ensure_connection(max_retries=max(1, len(connection.alt)), interval_start=0.2)
            read = queues.reader(connection, self.system)
            listener: Listener | None = None
            deaf = False
            while mine := self._mine():
                self._depths = read([name for name in mine if name != self._workers_claim])
                self._looked = time.monotonic()
                if self._depths:
                    self._seen = time.time()
                self._failures = 0
                until = self._looked + INTERVAL
                while (left := until - time.monotonic()) > 0:
                    if deaf or self._workers_claim not in mine:
                        time.sleep(left)
                        continue
                    try:
                        listener = listener or self._listener(connection)
                        if listener is None:
                            return
                        self._workers = listener.listen(min(left, LISTEN))
                        self._counted = time.monotonic()
                    except connection.channel_errors as error:
                        # It may not listen, but it may look.
                        deaf, self._workers = True, None
                        guard.warn_once(
                            "listener",
                            "the Celery workers are not counted (%s): let the user of broker_url listen to celeryev, "
                            "or set OTEL_CC_CELERY_MONITOR_ENABLED=false.",
                            error,
                        )


def connect(signals: Any) -> None:
    """Connect to Celery's signals.

    :param signals: the module ``celery.signals``
    """
    for signal, receiver in (
        (signals.celeryd_after_setup, _is_worker),
        # Its pool has been forked by then, which is better without our thread.
        (signals.worker_ready, _starts),
        (signals.beat_init, _starts),
    ):
        signal.connect(receiver, weak=False, dispatch_uid=f"otel_cc.monitor.{signal.name}")
    lifecycle.when_serving(_serves)


def published(app: Any) -> None:
    """Called at each publish: whoever publishes to a queue can look at it.

    :param app: Celery's application
    """
    if app not in _asked:
        with guard.guarded(_PLACE):
            start(app, PATIENCE)


def _serves() -> None:
    """Who serves may publish, and may be the only one that is left: after a restart, with nothing to do.

    Here, before the first request, what Celery computes of an application is not computed by two threads. What is left
    for later is the driver of the broker, whose import takes longer than all of our own start.
    """
    if not lifecycle.serves("asgi"):
        # Workers and beat have their own moment.
        return
    from celery import _state

    apps = []
    for app in list(_state._get_active_apps()):
        with guard.guarded(_PLACE):
            # Celery makes applications of its own, without a broker; and who runs tasks eagerly may have none.
            if app.conf.broker_url and not app.conf.task_always_eager:
                _compute(app)
                apps.append(app)
    if apps:
        threading.Thread(target=_start_later, args=(apps,), name="otel-cc-celery-monitor", daemon=True).start()


def _start_later(apps: list[Any]) -> None:
    time.sleep(PATIENCE)
    for app in apps:
        with guard.guarded(_PLACE):
            if app not in _asked:
                start(app)


def _compute(app: Any) -> None:
    """Have Celery compute, and remember, what a monitor reads: it does so under locks, and a child that is forked while
    our thread holds one could wait for it for ever."""
    app.amqp.queues, app.events.Receiver  # noqa: B018  it remembers them


def start(app: Any, delay: float = 0.0) -> None:
    """Look at the broker of an application from now on, if this process may.

    :param delay: seconds to wait before that
    """
    _asked.add(app)
    if _worker not in (None, os.getpid()):
        # The children of a worker, embedded beat among them, leave it to their parent.
        return
    if not settings.get().celery_monitor or not fork.metric_readers(otel_metrics.get_meter_provider()):
        return
    system = broker.system(app)
    if system not in broker.READABLE:
        return
    if _stops_the_loop():
        guard.warn_once(
            "late patch",
            "this process does not read the Celery queues, because it imported Celery before gevent or eventlet "
            "patched it: patch first, or set OTEL_CC_CELERY_MONITOR_ENABLED=false.",
        )
        return
    connection = broker.connection(app, system)
    identity = broker.identity(connection, system)
    _compute(app)
    with _lock:
        if identity in _monitors:
            _monitors[identity].apps.add(app)
        elif len(_monitors) < MOST:
            monitor = Monitor(app, identity, system, connection, delay)
            monitor.start()
            _monitors[identity] = monitor
        else:
            guard.warn_once(
                "brokers",
                "this process uses more than %d Celery brokers: the queues of the others are not read. Keep one "
                "application for each broker, or set OTEL_CC_CELERY_MONITOR_ENABLED=false.",
                MOST,
            )
    queue_gauges.observe(_monitors)


def _stops_the_loop() -> bool:
    """Whether kombu would wait in the real ``select``, and with it every green thread of the process."""
    import select

    from kombu.utils import eventio

    return getattr(eventio, "_selectf", select.select) is not select.select


def _is_worker(**_: object) -> None:
    global _worker
    _worker = os.getpid()


def _starts(sender: Any = None, **_: object) -> None:
    with guard.guarded(_PLACE):
        start(sender.app)


def _after_fork() -> None:
    global _asked, _lock
    # The threads are the parent's.
    _monitors.clear()
    _asked, _lock = WeakSet(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
