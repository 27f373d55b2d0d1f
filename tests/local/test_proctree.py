"""Which processes belong to a program: the same answer from both sources, and never a later process of the same number."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from otel_cc.local import proctree


def test_ps_and_proc_agree_on_this_process() -> None:
    """Machines without /proc ask ps."""
    mine = os.getpid()
    from_ps = proctree._from_ps()[mine]
    from_proc = proctree._from_proc()[mine]
    assert (from_ps.parent, from_ps.group) == (from_proc.parent, from_proc.group) == (os.getppid(), os.getpgrp())


def test_a_number_that_is_used_again_has_no_family() -> None:
    number, _started = proctree.identity(os.getpid())
    assert proctree.family((number, "another start")) == set()
    assert proctree.alive({(number, "another start")}) == []


def test_a_session_without_its_leader_belongs_to_it_only_while_one_who_is_known_is_in_it() -> None:
    """It may be that of a later process of the number, which has ended, too: many a daemon lives in such a session."""
    code = "import os\nif os.fork() == 0: print(os.getpid(), flush=True); input()"
    leader = subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert leader.stdout is not None
    assert leader.stdin is not None
    with leader.stdout, leader.stdin:
        orphan = proctree.identity(int(leader.stdout.readline()))
        leader.wait()
        gone = (leader.pid, "1")
        assert proctree.family(gone, [gone]) == set()
        assert not proctree.end(gone, [gone], 0)
        assert proctree.runs(orphan)
        assert proctree.family(gone, [gone, orphan]) == {orphan}
        assert proctree.end(gone, [gone, orphan], 0)
        assert not proctree.runs(orphan)


def test_a_process_began_before_now_and_a_zombie_did_not() -> None:
    begin = time.time()
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        began = proctree.began(child.pid)
        assert began is not None
        # Known to a hundredth of a second, counted from the start of the machine.
        assert begin - 2 < began < time.time() + 2
        assert child.stdin is not None
        child.stdin.close()
        deadline = time.monotonic() + 30
        while proctree.table()[child.pid].state != "Z" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert proctree.began(child.pid) is None
    finally:
        child.wait()
    assert proctree.began(child.pid) is None
