"""The runner: programs become ready or fail with the end of their log, and nothing is left of them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_cc.local import process, proctree
from otel_cc.local.process import (
    Process,
    ProcessError,
    Processes,
    environment,
    free_port,
    listens,
    says,
    wait_until,
)


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-u", "-c", code]


# A leader with a child in its group, one in a session of its own, and a grandchild of that; all ignore SIGTERM.
# One write a line: the pieces of an unbuffered print() of several processes run into each other.
STUBBORN = """
import os, signal, sys, time
def tell():
    sys.stdout.write(f"pid {os.getpid()}\\n")
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    tell()
    time.sleep(600)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        tell()
        time.sleep(600)
    tell()
    time.sleep(600)
tell()
time.sleep(600)
"""


def pids(process: Process, number: int) -> list[int]:
    """What a program printed as ``pid N``."""

    def found() -> list[int]:
        words = process.output().split()
        return [int(word) for word in words if word.isdigit()]

    wait_until(lambda: len(found()) == number, 30, "the children")
    return found()


def running(numbers: list[int]) -> list[int]:
    return [number for number in numbers if proctree.began(number) is not None]


def test_start_returns_when_the_program_says_that_it_is_ready() -> None:
    with Processes() as processes:
        process = processes.start(
            "talker", python("import time; time.sleep(0.2); print('up'); time.sleep(600)"), ready=says("^up")
        )
        assert process.output() == "up\n"
        assert process.running


def test_start_returns_when_the_port_accepts_connections() -> None:
    port = free_port()
    code = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"
    with Processes() as processes:
        processes.start("listener", python(code), ready=listens(port))
        socket.create_connection(("127.0.0.1", port)).close()


def test_a_program_that_is_not_ready_in_time_is_stopped_and_its_log_shown() -> None:
    with Processes() as processes:

        def late(process: Process) -> bool:
            # There must be something to show when the time is over.
            return not wait_until(process.output, 30)

        code = "import time; print('still looking for the moon'); time.sleep(60)"
        with pytest.raises(ProcessError) as error:
            processes.start("slow", python(code), ready=late, timeout=0.5)
        assert str(error.value) == "slow was not ready within 0.5 s. Its log ends:\n    still looking for the moon"
    assert processes.folder.exists() is False


def test_a_program_that_ends_before_it_is_ready_is_an_error_with_its_exit_code() -> None:
    with Processes() as processes:
        with pytest.raises(ProcessError) as error:
            processes.start("broken", python("import sys; print('no such table'); sys.exit(3)"), ready=says("up"))
        assert str(error.value) == (
            "broken ended with exit code 3 before it was ready. Its log ends:\n    no such table"
        )


def test_a_program_that_is_killed_before_it_is_ready_names_the_signal() -> None:
    with (
        Processes() as processes,
        pytest.raises(ProcessError, match="victim was killed by SIGKILL before it was ready"),
    ):
        processes.start("victim", python("import os; os.kill(os.getpid(), 9)"), ready=says("up"))


def test_a_program_that_does_not_exist_is_one_sentence() -> None:
    with Processes() as processes, pytest.raises(ProcessError, match=r"^ghost cannot be started: .*no-such-program"):
        processes.start("ghost", ["/no-such-program"])


def test_only_the_end_of_a_long_log_is_shown() -> None:
    with Processes() as processes:
        process = processes.start("chatty", python("for n in range(100): print('line', n)"))
        process.wait(60)
        assert process.tail(2) == "    line 98\n    line 99"


def test_stop_asks_the_leader_and_spares_the_group() -> None:
    """Celery's pool children die of SIGTERM in the middle of a task, so they must not get it from us."""
    code = """
import os, signal, sys, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, lambda *_: print("child was hit"))
    time.sleep(0.5)
    print("child is done")
    os._exit(0)
def end(*_):
    os.wait()
    print("leader is done")
    sys.exit(7)
signal.signal(signal.SIGTERM, end)
print("up")
time.sleep(60)
"""
    with Processes() as processes:
        process = processes.start("pool", python(code), ready=says("up"))
        assert process.stop(timeout=60) == 7
        assert process.output().splitlines() == ["up", "child is done", "leader is done"]


def test_stop_leaves_nothing_of_a_tree_that_ignores_the_signal() -> None:
    with Processes() as processes:
        process = processes.start("stubborn", python(STUBBORN))
        family = pids(process, 4)
        begin = time.monotonic()
        assert process.stop(timeout=0.3) == -signal.SIGKILL
        # None of them would end within ten minutes.
        assert time.monotonic() - begin < 60
        assert running(family) == []


def test_kill_ends_a_tree_at_once() -> None:
    with Processes() as processes:
        process = processes.start("stubborn", python(STUBBORN))
        family = pids(process, 4)
        process.kill()
        assert running(family) == []


def test_children_that_outlive_their_leader_are_killed() -> None:
    with Processes() as processes:
        process = processes.start(
            "parent", python("import os, time\nif os.fork() == 0: print('pid', os.getpid()); time.sleep(600)")
        )
        (orphan,) = pids(process, 1)
        assert process.wait(60) == 0
        assert running([orphan]) == [orphan]
        process.stop()
        assert running([orphan]) == []


def test_the_exit_code_is_kept_and_no_zombie_is_left() -> None:
    with Processes() as processes:
        process = processes.start("quick", python("raise SystemExit(5)"))
        assert process.wait(60) == 5
        assert process.stop() == 5
        assert process.pid not in proctree.table()


def test_programs_end_in_reverse_order_and_their_folder_is_removed() -> None:
    ended = []
    with Processes() as processes:
        folder = processes.folder
        first = processes.start("first", python("import time; time.sleep(60)"))
        processes.at_end(lambda: ended.append(("between", first.running, second.running)))
        second = processes.start("second", python("import time; time.sleep(60)"))
        processes.at_end(lambda: ended.append(("last in", first.running, second.running)))
        assert (folder / "first.log").exists()
    assert ended == [("last in", True, True), ("between", True, False)]
    assert (first.running, second.running) == (False, False)
    assert not folder.exists()


def test_an_exception_in_the_block_stops_everything() -> None:
    with pytest.raises(RuntimeError, match="the test failed"), Processes() as processes:
        process = processes.start("sleeper", python("import time; time.sleep(60)"))
        raise RuntimeError("the test failed")
    assert not process.running
    assert not processes.folder.exists()


def test_a_stop_that_fails_does_not_keep_the_others_from_stopping() -> None:
    def fail() -> None:
        raise OSError("cannot stop")

    with pytest.raises(OSError, match="cannot stop"), Processes() as processes:
        process = processes.start("sleeper", python("import time; time.sleep(60)"))
        processes.at_end(fail)
    assert not process.running
    assert not processes.folder.exists()


def test_a_folder_of_the_callers_is_kept(tmp_path: Path) -> None:
    with Processes(folder=tmp_path / "state") as processes:
        processes.start("talker", python("print('kept')")).wait(60)
    assert (tmp_path / "state" / "talker.log").read_text() == "kept\n"


def test_a_program_without_a_readiness_check_may_have_ended() -> None:
    with Processes() as processes:
        process = processes.start("quick", python("print('done')"), wait=False)
        process.wait(60)
        process.wait_ready(0)


def test_two_programs_of_one_name_have_a_log_each() -> None:
    with Processes() as processes:
        logs = [processes.start("a/b", python(f"print({n})")).log.name for n in range(2)]
    assert logs == ["a-b.log", "a-b-2.log"]


def test_stderr_can_be_kept_apart() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr)"
    with Processes() as processes:
        process = processes.start("both", python(code), separate_stderr=True)
        process.wait(60)
        assert (process.log.read_text(), process.err.read_text()) == ("out\n", "err\n")
        assert process.output() == "out\nerr\n"


def test_run_returns_the_output_or_says_why_it_failed() -> None:
    with Processes() as processes:
        assert processes.run("adder", python("print(1 + 1)")) == "2\n"
        with pytest.raises(
            ProcessError, match=r"(?s)^failing ended with exit code 1. Its log ends:.*ZeroDivisionError"
        ):
            processes.run("failing", python("1 / 0"))
        with pytest.raises(ProcessError, match=r"^endless still ran after 0.2 s"):
            processes.run("endless", python("import time; time.sleep(60)"), timeout=0.2)


def test_wait_gives_up_with_the_log() -> None:
    with Processes() as processes:
        process = processes.start("sleeper", python("import time; print('zzz'); time.sleep(60)"), ready=says("zzz"))
        with pytest.raises(ProcessError, match=r"(?s)^sleeper still runs after 0.1 s.*zzz"):
            process.wait(0.1)


def test_wait_until_returns_the_value_or_says_what_did_not_happen() -> None:
    assert wait_until(lambda: 42, 1) == 42
    with pytest.raises(TimeoutError, match=r"^rain did not come true within 0.05 s.$"):
        wait_until(lambda: False, 0.05, "rain")


def test_free_ports_are_different_and_outside_of_the_range_of_outgoing_connections() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert all(15000 <= port < 32000 for port in ports)


def test_the_environment_of_a_program_has_nothing_that_changes_its_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_CC_ENABLED", "PYTHONPATH", "PGHOST"):
        monkeypatch.setenv(name, "of the caller")
    monkeypatch.setenv("KEPT", "yes")
    clean = environment({"OTEL_SERVICE_NAME": "ours"})
    assert clean["OTEL_SERVICE_NAME"] == "ours"
    assert clean["KEPT"] == "yes"
    assert {"OTEL_CC_ENABLED", "PYTHONPATH", "PGHOST"} & clean.keys() == set()


# A command as the demo is one: signals make it end orderly. Its child says when it is asked to end, and takes a while.
COMMAND = """
import sys, time
from otel_cc.local.process import Interrupted, Processes, says
child = '''
import signal, sys, time
def end(*_):
    print("asked", flush=True)
    time.sleep(float(sys.argv[1]))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(600)
'''
try:
    with Processes(handle_signals=True) as processes:
        process = processes.start("child", [sys.executable, "-S", "-c", child, sys.argv[1]], ready=says("up"), stop_timeout=60)
        print(process.pid, processes.folder, flush=True)
        time.sleep(600)
except Interrupted as interrupted:
    print("orderly", process.exit_code, flush=True)
    sys.exit(interrupted.exit_code)
"""


def command(child_needs: float) -> tuple[subprocess.Popen[str], int, Path]:
    started = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(child_needs)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    pid, folder = started.stdout.readline().split()
    return started, int(pid), Path(folder)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_in_order(signum: signal.Signals) -> None:
    started, child, folder = command(child_needs=0)
    started.send_signal(signum)
    assert started.communicate(timeout=60) == ("orderly 0\n", "")
    assert started.returncode == 128 + signum
    assert running([child]) == []
    assert not folder.exists()


def test_a_second_signal_does_not_wait_for_slow_programs() -> None:
    started, child, folder = command(child_needs=50)
    started.send_signal(signal.SIGINT)
    # Two signals that come before the first is handled are one.
    wait_until(lambda: "asked" in (folder / "child.log").read_text(), 30, "the first signal is handled")
    begin = time.monotonic()
    started.send_signal(signal.SIGINT)
    assert started.communicate(timeout=60) == (f"orderly {-signal.SIGKILL}\n", "")
    assert time.monotonic() - begin < 40
    assert started.returncode == 130
    assert running([child]) == []
    assert not folder.exists()


def test_an_exit_without_the_with_block_leaves_nothing() -> None:
    code = """
import sys
from otel_cc.local.process import Processes
processes = Processes()
process = processes.start("forgotten", [sys.executable, "-S", "-c", "import time; time.sleep(600)"])
print(process.pid, processes.folder)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    pid, folder = done.stdout.split()
    assert running([int(pid)]) == []
    assert not Path(folder).exists()


def test_a_forked_child_stops_nothing_of_its_parent() -> None:
    code = """
import os, sys
from otel_cc.local.process import Processes
with Processes() as processes:
    process = processes.start("shared", [sys.executable, "-S", "-c", "import time; time.sleep(600)"])
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
    print(process.running, processes.folder.exists())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True True\n"


def test_a_port_that_somebody_chose_is_not_given_out() -> None:
    # Many, as some are kept for other processes of the test run.
    left = range(20000, 30000)
    chosen = {*range(15000, 32000)} - {*left} - process._given
    process.keep_for_others(chosen)
    try:
        assert {free_port() for _ in range(3)} <= set(left)
    finally:
        process._given.difference_update(chosen)
