"""The generated pages of docs/: ``python -m tools.pages`` writes them.

With ``--check`` it only compares.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tools import metrics_page, settings_page, versions_page

DOCS = Path(__file__).parent.parent / "docs"

PAGES: dict[str, Callable[[str], str]] = {
    "settings.md": settings_page.page,
    "metrics.md": metrics_page.page,
    "tools.md": versions_page.page,
}
"""What makes each page of its present text."""


def stale() -> list[str]:
    """The pages that are not what they are made from says."""
    return [name for name, page in PAGES.items() if (DOCS / name).read_text() != page((DOCS / name).read_text())]


def main() -> None:
    """Write the pages, or say which are not current."""
    found = stale()
    if sys.argv[1:] == ["--check"]:
        if found:
            sys.exit(f"not what they are made from says: docs/{', docs/'.join(found)}; run make docs.")
        print("The generated pages are current.")
        return
    for name in found:
        path = DOCS / name
        path.write_text(PAGES[name](path.read_text()))
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
