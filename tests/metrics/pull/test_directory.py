"""The folder where processes meet: only its user's, no file in it can do harm, and every count is added once."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_cc.local.process import wait_until
from otel_cc.metrics.pull.directory import PAST, Directory, folder_for
from otel_cc.metrics.pull.ledger import Ledger
from otel_cc.metrics.pull.snapshot import Family, Number, Snapshot, encode


def counted(value: float, run: str = "run", *, new: bool = False, level: float | None = None) -> Snapshot:
    families = {("c", "counter"): Family("c", "counter", series={(): Number(value, new)})}
    if level is not None:
        families["g", "gauge"] = Family("g", "gauge", series={(): Number(level)})
    return Snapshot(run, {}, families)


def values(snapshot: Snapshot) -> dict[str, float]:
    return {name: family.series[()].value for (name, _), family in snapshot.families.items()}


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    made = Directory(tmp_path / "status" / "prometheus", "run")
    made.open()
    return made


@pytest.fixture
def answering(directory: Directory) -> Iterator[Callable[[str, bytes | None], socket.socket]]:
    """A living member that gives this answer; None: it never answers."""
    listeners = []

    def answer(listener: socket.socket, data: bytes) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if connection.recv(1):
                    connection.sendall(data)

    def start(name: str, data: bytes | None) -> socket.socket:
        listener = directory.enter(name)
        listeners.append(listener)
        if data is not None:
            threading.Thread(target=answer, args=(listener, data), daemon=True).start()
        return listener

    yield start
    for listener in listeners:
        try:
            listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        listener.close()


ONE, TWO, THREE = "1-00000001", "2-00000002", "3-00000003"


def test_folder_and_files_are_for_their_user_alone(directory: Directory) -> None:
    with directory.enter(ONE):
        directory.write(ONE, counted(1))
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.path.iterdir()}
        assert modes[f"{ONE}.json"] == modes["entrance.lock"] == 0o600


def test_services_and_ports_have_folders_of_their_own(tmp_path: Path) -> None:
    names = [("localhost:9464", "/shop"), ("localhost:9465", "/shop"), ("localhost:9464", "/bank")]
    assert len({folder_for(tmp_path, *name) for name in names}) == 3


def test_a_folder_that_others_may_enter_is_refused(directory: Directory) -> None:
    directory.path.chmod(0o750)
    with pytest.raises(PermissionError):
        directory.enter(ONE)


def test_a_link_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    (tmp_path / "status").mkdir()
    (tmp_path / "status" / "prometheus").symlink_to(tmp_path / "theirs")
    with pytest.raises(PermissionError):
        Directory(tmp_path / "status" / "prometheus", "run").enter(ONE)


def test_a_path_too_long_for_a_socket_works(tmp_path: Path) -> None:
    directory = Directory(tmp_path / ("long" * 30) / "prometheus", "run")
    with directory.enter(ONE):
        assert directory.alive(ONE)
    assert not directory.alive(ONE)


def test_the_living_answer_and_the_dead_are_told_apart(
    directory: Directory, answering: Callable[[str, bytes | None], socket.socket]
) -> None:
    answering(ONE, encode(counted(1)))
    answering(TWO, None)
    directory.enter(THREE).close()
    assert directory.members() == [ONE, TWO, THREE]
    assert directory.ask(directory.members(), 3) == {ONE: counted(1), TWO: None}


def test_a_member_whose_queue_is_full_lives(
    directory: Directory, answering: Callable[[str, bytes | None], socket.socket]
) -> None:
    answering(ONE, None).listen(0)
    waiting = [directory._connect(ONE) for _ in range(4)]
    # A connection that waits would wait for ever.
    assert directory.alive(ONE)
    for connection in waiting:
        assert connection is not None
        connection.close()


def test_many_who_hold_back_delay_a_scrape_once(
    directory: Directory, answering: Callable[[str, bytes | None], socket.socket]
) -> None:
    for number in range(8):
        answering(f"{number}-0000000a", None)
    began = time.monotonic()
    directory.ask(directory.members(), 2)
    # One after the other they would take 16 seconds.
    assert 2 <= time.monotonic() - began < 10


# Everything that a file or a socket of a member could be.


def hostile(directory: Directory) -> None:
    path = directory.path
    (path / "1-aaaaaaaa.json").write_bytes(b"\x80\x04\x95 this is a pickle")
    (path / "2-aaaaaaaa.json").mkdir()
    os.mkfifo(path / "3-aaaaaaaa.json")
    (path / "4-aaaaaaaa.json").symlink_to("/dev/zero")
    (path / "5-aaaaaaaa.json").symlink_to("5-aaaaaaaa.json")
    (path / "6-aaaaaaaa.json").write_bytes(b"[" * 100_000)
    (path / "7-aaaaaaaa.json").touch()
    with open(path / "8-aaaaaaaa.json", "wb") as file:
        file.truncate(10**10)
    (path / "9-aaaaaaaa.sock").write_text("this is no socket")
    (path / "10-aaaaaaaa.sock").symlink_to("/nowhere")
    (path / "not a member.json").write_bytes(encode(counted(1000)))
    (path / "..json").write_bytes(encode(counted(1000)))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An owner that waits for who answers, however busy the machine is."""
    monkeypatch.setattr("otel_cc.metrics.pull.ledger.PATIENCE", 60)


@pytest.mark.parametrize("past", [b"", b"no JSON", encode(counted(100, "run"))[:-1]])
def test_a_hostile_file_spoils_no_scrape(
    directory: Directory, past: bytes, answering: Callable[[str, bytes | None], socket.socket], patient: None
) -> None:
    answering(ONE, encode(counted(1, level=3)))
    answering(TWO, b"this is no snapshot")
    hostile(directory)
    (directory.path / "past.json").write_bytes(past)
    ledger = Ledger(directory)
    for _ in range(2):
        assert values(ledger.scrape()) == {"c": 1, "g": 3}
        ledger.tidy()


def test_of_the_dead_the_counters_remain_and_the_gauges_go(
    directory: Directory, answering: Callable[[str, bytes | None], socket.socket], patient: None
) -> None:
    answering(ONE, encode(counted(1, level=10)))
    for name in (TWO, THREE):
        directory.enter(name).close()
        directory.write(name, counted(20, level=7))
    ledger = Ledger(directory)
    for _ in range(3):
        assert values(ledger.scrape()) == {"c": 41, "g": 10}
    assert directory.members() == [ONE]
    # The next owner reads what this one has kept.
    assert values(Ledger(directory).scrape()) == {"c": 41, "g": 10}


def test_one_that_is_too_busy_is_shown_with_what_it_kept(
    directory: Directory, answering: Callable[[str, bytes | None], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_cc.metrics.pull.ledger.PATIENCE", 0.2)
    answering(ONE, None)
    directory.write(ONE, counted(5, level=7))
    assert values(Ledger(directory).scrape()) == {"c": 5, "g": 7}


def test_an_owner_that_dies_while_it_adds_up_counts_nobody_twice(directory: Directory) -> None:
    directory.enter(ONE).close()
    directory.write(ONE, counted(5))
    Ledger(directory).tidy()
    # As if it had died before it removed the file.
    directory.write(ONE, counted(5))
    ledger = Ledger(directory)
    for _ in range(2):
        assert values(ledger.scrape()) == {"c": 5}
        ledger.tidy()


def test_an_owner_without_room_on_the_disk_loses_nothing(directory: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.enter(ONE).close()
    directory.write(ONE, counted(5))
    (directory.path / "past.tmp").mkdir()
    ledger = Ledger(directory)
    for _ in range(2):
        assert values(ledger.scrape()) == {"c": 5}
    (directory.path / "past.tmp").rmdir()
    for _ in range(2):
        assert values(ledger.scrape()) == {"c": 5}
        assert directory.members() == []


def test_the_owner_can_answer_while_it_is_asked(
    directory: Directory, answering: Callable[[str, bytes | None], socket.socket], patient: None
) -> None:
    listener = answering(ONE, None)
    ledger = Ledger(directory)
    scrape = threading.Thread(target=ledger.scrape)
    scrape.start()
    wait_until(ledger._lock.locked, 30)
    # The thread that answers comes by here.
    ledger.tidy()
    assert scrape.is_alive()
    # Nobody is there any more who could answer.
    listener.close()
    scrape.join(30)
    assert not scrape.is_alive()


def test_a_new_series_of_the_dead_is_shown_as_zero_once(directory: Directory) -> None:
    directory.enter(ONE).close()
    directory.write(ONE, counted(5, new=True))
    ledger = Ledger(directory)
    ledger.tidy()
    shown = [ledger.scrape().families["c", "counter"].series[()] for _ in range(2)]
    assert shown == [Number(5, new=True), Number(5)]


def test_a_member_whose_socket_was_cleaned_away_is_not_added_to_the_dead(directory: Directory) -> None:
    listener = directory.enter(ONE)
    directory.write(ONE, counted(5, level=7))
    directory.remove(f"{ONE}.sock")
    ledger = Ledger(directory)
    ledger.tidy()
    assert values(ledger.scrape()) == {"c": 5, "g": 7}
    listener.close()
    long_ago = time.time() - 60
    os.utime(directory.path / f"{ONE}.json", (long_ago, long_ago))
    assert values(ledger.scrape()) == {"c": 5}


def test_who_finds_nobody_alive_begins_a_new_run(directory: Directory) -> None:
    directory.enter(ONE).close()
    directory.write(ONE, counted(5))
    directory.write(PAST, counted(50))
    # A sibling of the same start: what its predecessors counted stays.
    directory.enter(TWO).close()
    assert (directory.members(), directory.read(PAST)) == ([ONE, TWO], counted(50))
    Directory(directory.path, "another start").enter(THREE).close()
    assert (directory.members(), directory.read(PAST)) == ([THREE], None)


def test_who_finds_somebody_alive_joins(directory: Directory) -> None:
    with directory.enter(ONE):
        directory.write(PAST, counted(50))
        Directory(directory.path, "another start").enter(TWO).close()
        assert (directory.members(), directory.read(PAST)) == ([ONE, TWO], counted(50))


HOLDS = """
import sys
from pathlib import Path
from otel_cc.local.process import wait_until
from otel_cc.metrics.pull.directory import Directory

with Directory(Path(sys.argv[1]), "run")._entering():
    print("inside", flush=True)
    sys.stdin.read()
"""


def test_who_comes_waits_for_another_one_that_comes(directory: Directory) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLDS, directory.path], text=True, **pipes) as other:
        assert other.stdout.readline() == "inside\n"
        entered: list[socket.socket] = []
        thread = threading.Thread(target=lambda: entered.append(directory.enter(ONE)))
        thread.start()
        thread.join(0.1)
        assert (thread.is_alive(), directory.members()) == (True, [])
        other.stdin.close()
        thread.join(30)
        entered[0].close()
