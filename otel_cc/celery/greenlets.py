"""Before everything else: a Celery worker on green threads is monkey-patched before the SDK exists.

Celery patches in ``celery.__main__``. Under a launcher that is too late: the SDK's threads and locks are made by then,
the sockets of its exporter are the real ones, and such a worker never executes a task
(opentelemetry-python-contrib#3699). The first lines of the distro call :func:`patch_green_pools`, so nothing here may
import the SDK, requests, urllib3, ssl, kombu or redis.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

_GREEN = ("gevent", "eventlet")
# Options of the interpreter that take the next argument as their value.
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")


def patch_green_pools(argv: Sequence[str]) -> str | None:
    """Monkey-patch this process when its command line starts a Celery worker with ``-P gevent`` or ``-P eventlet``.

    Only the command line is read, as Celery itself does: ``worker_pool`` in the configuration is known too late.

    :param argv: the whole command line with the interpreter, ``sys.orig_argv``
    :return: the name of the pool that was patched for, or None
    """
    words = command(argv)
    pool = green_pool(words)
    if pool is not None:
        import celery

        # What celery.__main__ does, only earlier; doing it twice is harmless.
        celery.maybe_patch_concurrency(["celery", *words])
    return pool


def command(argv: Sequence[str]) -> Sequence[str]:
    """The arguments of ``celery`` in a command line, or nothing when it runs another program.

    ``celery multi`` only starts other processes and is left alone, as Celery does.

    :param argv: for example ``["python", "-X", "dev", "-m", "celery", "-A", "shop", "worker"]``
    """
    at = 1
    while at < len(argv) and argv[at].startswith("-") and not argv[at].startswith("-m"):
        at += 2 if argv[at] in _WITH_VALUE else 1
    if at < len(argv) and argv[at].startswith("-m"):
        if argv[at] == "-m":
            at += 1
        program = argv[at].removeprefix("-m") if at < len(argv) else ""
        found = program in ("celery", "celery.__main__")
    else:
        program = argv[at] if at < len(argv) else ""
        found = os.path.basename(program) in ("celery", "celery.exe") or program.endswith("/celery/__main__.py")
    words = argv[at + 1 :]
    return words if found and "multi" not in words else []


def green_pool(words: Sequence[str]) -> str | None:
    """The green pool that the arguments of ``celery`` ask for, read the way Celery reads them."""
    for at, word in enumerate(words):
        name, has_value, value = word.partition("=")
        if word == "-P" or (name == "--pool" and not has_value):
            value = words[at + 1] if at + 1 < len(words) else ""
        elif name != "--pool":
            continue
        return value if value in _GREEN else None
    return None
