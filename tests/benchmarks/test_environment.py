"""What the benchmark installs."""

from __future__ import annotations

from benchmarks.environment import merged

LOCK = """\
annotated-doc==0.0.6 ; python_full_version < '3.11' \\
    --hash=sha256:aa
annotated-doc==0.0.7 ; python_full_version >= '3.11' \\
    --hash=sha256:bb
fastapi==0.165.0 \\
    --hash=sha256:cc
sqlalchemy==2.1.9 \\
    --hash=sha256:dd
"""


def test_the_lock_pins_everything_but_what_the_benchmark_pins_itself() -> None:
    assert merged("# comment\nsqlalchemy[asyncio]==2.0.58\nfastapi\n", LOCK) == (
        "annotated-doc==0.0.6 ; python_full_version < '3.11'\n"
        "annotated-doc==0.0.7 ; python_full_version >= '3.11'\n"
        "fastapi==0.165.0\n"
    )
