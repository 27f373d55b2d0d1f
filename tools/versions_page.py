"""The tables of docs/tools.md, from tools/versions.json: ``python -m tools.versions_page``.

With ``--check`` it only compares.
"""

from __future__ import annotations

import sys

from tools import versions

PAGE = versions.ROOT / "docs" / "tools.md"
BEGIN = "<!-- versions: from tools/versions.json, by `make docs` -->\n"
END = "<!-- end of versions -->"


def tables() -> str:
    """A row for each program, then one for each image that no program belongs to."""
    text = "\n| program | version | what for | image of the same release | licence |\n|---|---|---|---|---|\n"
    for program in versions.programs().values():
        image = f"`{program.image}`" if program.image else "none"
        text += f"| {program.name} | {program.version} | {program.purpose} | {image} | {program.licence} |\n"
    text += "\n| image only | version | image | licence |\n|---|---|---|---|\n"
    for name, entry in versions.read()["images"].items():
        text += f"| {name} | {entry['version']} | `{entry['image']}` | {entry['licence']} |\n"
    return text + "\n"


def page(present: str) -> str:
    """The page with its tables renewed."""
    if BEGIN not in present or END not in present:
        sys.exit(f"docs/tools.md lacks the comment lines around its tables: {BEGIN.strip()} and {END}.")
    before, _, rest = present.partition(BEGIN)
    return before + BEGIN + tables() + END + rest.partition(END)[2]


def main() -> None:
    """Write the page, or say that it is not current."""
    present = PAGE.read_text()
    if sys.argv[1:] == ["--check"]:
        if present != page(present):
            sys.exit("docs/tools.md is not what tools/versions.json says: run make docs.")
        print("docs/tools.md is current.")
    else:
        PAGE.write_text(page(present))


if __name__ == "__main__":
    main()
