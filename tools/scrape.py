"""Records the names of all series, and of their labels, that a running stack has: tests/stack/recorded/series.json.

Traffic over everything makes them: that of the shop, the runs of tests/truth, and callers who choose too many names.
With ``--check`` nothing is written: the exit code says whether the record still holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from otel_cc.local import demo, prometheus_client, stack, traffic
from otel_cc.local.process import Processes, wait_until
from otel_cc.local.sink import Sink
from otel_cc.metrics.catalogue import BOUNDS, CATALOGUE, prometheus_name
from tests.conftest import Launch
from tests.truth import stage
from tests.truth.client import Connection, Tally
from tests.truth.mix import Kind, Planned

RECORD = Path(__file__).parent.parent / "tests" / "stack" / "recorded" / "series.json"
# What is not exported by our processes, by its job; everything else is the application's.
OTHERS = ("alertmanager", "host", "jaeger", "otelcol", "postgres", "prometheus", "valkey")
APPLICATION = "application"
PATIENCE = 60.0

Series = dict[str, dict[str, list[str]]]


class Tee(Sink):
    """A receiver that also hands on what it gets.

    :param endpoint: where to, over OTLP/HTTP
    """

    def __init__(self, endpoint: str) -> None:
        super().__init__()
        self._onward = endpoint

    def _receive(self, path: str, headers: Mapping[str, str], body: bytes) -> int | None:
        request = urllib.request.Request(self._onward + path, body, {"Content-Type": "application/x-protobuf"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
        return super()._receive(path, headers, body)


def read(url: str, start: float, end: float) -> Series:
    """The names of the series that Prometheus has had, by origin, each with the names of its labels."""
    found: dict[str, dict[str, set[str]]] = {}
    with prometheus_client.Client(url) as prometheus:
        for labels in prometheus.series('{__name__!=""}', start, end):
            origin = labels["job"] if labels.get("job") in OTHERS else APPLICATION
            names = found.setdefault(origin, {}).setdefault(labels["__name__"], set())
            names.update(labels.keys() - {"__name__"})
    return {
        origin: {name: sorted(names) for name, names in sorted(series.items())}
        for origin, series in sorted(found.items())
    }


def wanted() -> set[str]:
    """What must be there before it is read."""
    return {
        prometheus_name(name) + ("_count" if entry.kind == "histogram" else "") for name, entry in CATALOGUE.items()
    }


def overflow(endpoint: str, folder: Path) -> None:
    """Have callers choose more names than a label may have."""

    async def throw(port: int) -> None:
        tally = Tally()
        connection = Connection(port, tally)
        for number in range(BOUNDS["error_type"] + 50):
            kind = Kind(1, f"/names/{number}", status=503)
            await connection.send(Planned("names", kind.path), kind)
        await connection.close()

    with Tee(endpoint) as sink, Processes() as processes:
        here = Path(stage.__file__).parent
        launch = Launch(processes, sink, folder)
        server = launch.uvicorn("--no-access-log", app="hostile:app", cwd=here, env={"OTEL_SERVICE_NAME": "hostile"})
        asyncio.run(throw(server.port))
        server.process.stop()


def record() -> Series:
    """Run everything and return what Prometheus has then."""
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="scrape-") as name, Processes() as processes:
        folder = Path(name)
        folder.chmod(0o711)
        running = stack.start(processes, interval="1s", progress=progress)
        progress("sending the traffic of the shop")
        demo.send(running.shop.port, traffic.first())
        sender = traffic.Traffic(running.shop.port, 20).start()
        processes.at_end(sender.stop)
        progress("sending the traffic of tests/truth")
        stage.perform(folder, running.shop.broker, 5, Tee(running.collector.endpoint))
        progress("sending more names than a label may have")
        overflow(running.collector.endpoint, folder)
        progress("waiting for Prometheus")
        missing: set[str] = set()

        def there() -> bool:
            missing.clear()
            missing.update(wanted() - read(running.prometheus.url, began, time.time()).get(APPLICATION, {}).keys())
            return not missing

        try:
            wait_until(there, PATIENCE)
        except TimeoutError:
            # The comparison of the record with the catalogue says so, too.
            progress(f"not there: {', '.join(sorted(missing))}")
        return read(running.prometheus.url, began, time.time())


def progress(text: str) -> None:
    """Say what is being done."""
    print(f"{text} ...", file=sys.stderr, flush=True)


def differences(old: Series, new: Series) -> list[str]:
    """What the record lacks or has too much. Programs that are not ours show some series only when something happens."""
    found = []
    for origin in sorted({*old, *new}):
        before, after = old.get(origin, {}), new.get(origin, {})
        found += [f"{origin}: {name} is gone" for name in before if name not in after]
        if origin == APPLICATION:
            found += [f"{origin}: {name} is new" for name in after if name not in before]
            found += [
                f"{origin}: {name} has the labels {after[name]} instead of {before[name]}"
                for name in before
                if name in after and before[name] != after[name]
            ]
    return found


def main() -> int:
    """Write the record, or compare with it."""
    parser = argparse.ArgumentParser(prog="tools.scrape", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    new = record()
    if not check:
        RECORD.parent.mkdir(exist_ok=True)
        RECORD.write_text(json.dumps(new, indent=1) + "\n")
        print(f"{RECORD}: {sum(map(len, new.values()))} names")
        return 0
    found = differences(json.loads(RECORD.read_text()), new)
    print("\n".join(found) or f"{RECORD.name} holds: {sum(map(len, new.values()))} names")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
