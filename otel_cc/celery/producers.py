"""Who makes the spans of this process; the carriers and the counting ask here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_cc.celery.execute import Runs
    from otel_cc.celery.publish import Publishes


class Producers:
    """None where nobody of ours does."""

    publishes: Publishes | None = None
    runs: Runs | None = None


producers = Producers()
