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
    assert proctree.alive((number, "another start"), {(number, "another start")}) == []


def test_a_process_began_before_now_and_a_zombie_did_not() -> None:
    begin = time.time()
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        began = proctree.began(child.pid)
        assert began is not None
        assert abs(began - begin) < 5
        assert child.stdin is not None
        child.stdin.close()
        deadline = time.monotonic() + 10
        while proctree.table()[child.pid].state != "Z" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert proctree.began(child.pid) is None
    finally:
        child.wait()
    assert proctree.began(child.pid) is None
