"""What the demo sent beside what the metrics say about it: the numbers must be the same, to the unit."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from otel_cc.local.backend import Backend
from otel_cc.local.evidence import Check, Evidence
from otel_cc.local.process import wait_until
from otel_cc.metrics.catalogue import CATALOGUE, prometheus_name

# A series is exported as 0 first and with its value at the next export, so two intervals must pass.
ARRIVAL = 30.0


@dataclass(frozen=True)
class Tally:
    """One metric beside the truth, both by the values of one label.

    :param metric: its name in the catalogue
    :param label: which label tells its series apart here
    :param sent: what the client sent or expected
    :param exported: what arrived, added over all processes
    """

    metric: str
    label: str
    sent: dict[str, int]
    exported: dict[str, int]

    @property
    def shown(self) -> str:
        """The name under which Prometheus would show it."""
        return prometheus_name(self.metric) + ("_count" if CATALOGUE[self.metric].kind == "histogram" else "")

    def check(self) -> Check:
        """Whether both are the same."""
        if self.sent == self.exported:
            return Check(self.shown)
        return Check(self.shown, f"{self.shown} says {self.exported} by {self.label} instead of {self.sent}")


def tallies(backend: Backend, found: list[Evidence]) -> list[Tally]:
    """Wait until the metrics have arrived and compare them with what was sent.

    :param backend: where they arrive
    :param found: everything that was sent since the processes started
    """
    statuses = Counter(str(one.response.status) for one in found)
    errors = {status: number for status, number in statuses.items() if status >= "400"}
    runs = sum(one.request.runs for one in found)
    retries = sum(one.request.runs > 1 for one in found)
    outcomes = {"SUCCESS": runs - retries, "RETRY": retries}
    wanted: list[tuple[str, str, dict[str, int]]] = [
        ("http.server.request.duration", "http.response.status_code", dict(statuses)),
        ("commandcenter.errors", "status_code", errors),
        ("celery.task.executions", "celery.task.state", outcomes),
    ]

    compared: list[Tally] = []

    def agree() -> bool:
        compared[:] = [
            Tally(name, label, dict(sorted(sent.items())), backend.totals(name, label)) for name, label, sent in wanted
        ]
        return all(tally.check().ok for tally in compared)

    with suppress(TimeoutError):
        wait_until(agree, ARRIVAL)
    return compared
