"""A generated part of a page: what stands between two comment lines is replaced, all else is left as it was written."""

from __future__ import annotations

import sys


def replaced(text: str, part: str, source: str, new: str) -> str:
    """The text of a page with one part of it renewed.

    :param part: what the comment lines call it
    :param source: what it is made from, as the first comment line says
    """
    begin, end = f"<!-- {part}: from {source}, by `make docs` -->\n", f"<!-- end of {part} -->"
    if begin not in text or end not in text:
        sys.exit(f"the page lacks the comment lines around its {part}: {begin.strip()} and {end}.")
    before, _, rest = text.partition(begin)
    return before + begin + new + end + rest.partition(end)[2]
