from __future__ import annotations

import fcntl
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_cc.collector import bolt, queue_check
from otel_cc.local import collector as local_collector
from otel_cc.local.process import Processes, free_port, wait_until
from otel_cc.local.sink import Sink
from tests.stack.conftest import QUICK
from tests.stack.sender import post, spans

pytestmark = pytest.mark.programs

FILE = "exporter_otlp_http_traces_traces"
PAGE = 4096


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A queue file with 30 requests in it, as a killed collector leaves it."""
    state = tmp_path_factory.mktemp("state")
    with Processes() as processes, Sink() as sink:
        sink.refuse(503)
        env = {"OTEL_CC_TRACES_URL": sink.endpoint, "OTEL_CC_PROMETHEUS_URL": sink.endpoint, **QUICK}
        collector = local_collector.start(processes, env=env, state=state)
        for first in range(1, 3001, 100):
            assert post(collector.http_port, "/v1/traces", spans(first, 100).SerializeToString()) == 200
        collector.process.kill()
    return (state / "queue" / FILE).read_bytes()


def test_a_queue_file_that_the_collector_wrote_is_sound(queue: bytes, tmp_path: Path) -> None:
    assert len(queue) > 100_000
    path = tmp_path / "file"
    path.write_bytes(queue)
    bolt.check(path)
    path.write_bytes(b"")
    bolt.check(path)


def _random(data: bytes) -> bytes:
    return random.Random(1).randbytes(len(data))


def _zero(data: bytes) -> bytes:
    return bytes(len(data))


def _truncated(data: bytes) -> bytes:
    # Without the root of its tree; a file that lacks only what is free may work.
    return data[: 2 * PAGE]


def _short(data: bytes) -> bytes:
    return data[:100]


def _pages(data: bytes) -> bytes:
    """Everything behind the two meta pages is overwritten."""
    return data[: 2 * PAGE] + random.Random(2).randbytes(len(data) - 2 * PAGE)


DAMAGES = [_random, _zero, _truncated, _short, _pages]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_collector_does_not_start_with_a_damaged_file_and_does_after_the_check(
    queue: bytes, processes: Processes, sink: Sink, damage: Callable[[bytes], bytes]
) -> None:
    state = processes.folder / "state"
    (state / "queue").mkdir(parents=True)
    path = state / "queue" / FILE
    path.write_bytes(damage(queue))
    env = {"OTEL_CC_TRACES_URL": sink.endpoint, "OTEL_CC_PROMETHEUS_URL": sink.endpoint, **QUICK}

    without = processes.start(
        "without",
        local_collector.command(),
        env={**env, "OTEL_CC_COLLECTOR_STATE": str(state), "PATH": "/usr/bin:/bin"} | _ports(),
        wait=False,
    )
    # Seen to fail without us: this is why the check is there.
    assert without.wait(60) != 0
    path.write_bytes(damage(queue))

    collector = local_collector.start(processes, env=env, state=state)
    (moved,) = collector.moved
    assert moved.path == path and moved.to.read_bytes() == damage(queue)
    assert str(path) in str(moved) and str(moved.to) in str(moved) and "Lost is what had been accepted" in str(moved)
    assert post(collector.http_port, "/v1/traces", spans(1, 5).SerializeToString()) == 200
    sink.wait_spans(5)


def _ports() -> dict[str, str]:
    names = ("GRPC_PORT", "HTTP_PORT", "HEALTH_PORT", "METRICS_PORT")
    return {f"OTEL_CC_COLLECTOR_{name}": str(free_port()) for name in names}


def test_what_a_sound_file_holds_is_delivered_after_the_check(queue: bytes, processes: Processes, sink: Sink) -> None:
    state = processes.folder / "state"
    (state / "queue").mkdir(parents=True)
    (state / "queue" / FILE).write_bytes(queue)
    env = {"OTEL_CC_TRACES_URL": sink.endpoint, "OTEL_CC_PROMETHEUS_URL": sink.endpoint, **QUICK}
    collector = local_collector.start(processes, env=env, state=state)
    assert not collector.moved
    wait_until(lambda: len(sink.spans()) == 3000, 30, "3000 spans")


def test_a_file_that_a_collector_has_open_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "queue" / FILE
    path.parent.mkdir()
    path.write_bytes(b"damaged")
    with open(path, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert queue_check.check(tmp_path) == []
    (moved,) = queue_check.check(tmp_path)
    assert moved.to.parent == tmp_path / queue_check.ASIDE and not path.exists()
    assert queue_check.check(tmp_path) == []


def test_the_command_names_the_file_and_lets_the_collector_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue" / FILE).write_bytes(b"damaged")
    assert queue_check.main([str(tmp_path)]) == 0
    assert FILE in capsys.readouterr().err
    assert queue_check.main([str(tmp_path / "is-not-there")]) == 0
    assert capsys.readouterr().err == ""
