"""The tables of docs/tools.md, from tools/versions.json."""

from __future__ import annotations

from tools import versions
from tools.marked import replaced


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
    return replaced(present, "versions", "tools/versions.json", tables())
