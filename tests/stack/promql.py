"""Every PromQL expression that is shipped: those of dashboards, of rules and of the documentation, and the metrics in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# What stands for these in a query is Grafana's choice at that moment; any will do.
_GLOBALS = {
    "__rate_interval": "1m",
    "__interval": "15s",
    "__interval_ms": "15000",
    "__range": "1h",
    "__range_s": "3600",
    "__range_ms": "3600000",
}
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
# The functions of Grafana that a query of a variable may be, with an expression or without one.
_FUNCTIONS = (
    re.compile(r"(?s)query_result\((?P<expression>.+)\)\s*"),
    re.compile(r"(?s)label_values\((?:(?P<expression>.+),)?\s*[\w$]+\s*\)\s*"),
    re.compile(r"(?s)(?:metrics|label_names)\((?P<expression>)[^()]*\)\s*"),
)
# Prometheus makes them itself of its alerts.
_ALERTS = {"ALERTS", "ALERTS_FOR_STATE"}

Parse = Callable[[str], Any]


@dataclass(frozen=True)
class Query:
    """One expression.

    :param place: where it stands, for people
    :param text: without Grafana's variables
    """

    place: str
    text: str


def shipped(root: Path) -> tuple[list[Query], set[str]]:
    """All expressions of a checkout, and the names that its recording rules make."""
    queries: list[Query] = []
    for file in sorted((root / "grafana" / "dashboards").glob("**/*.json")):
        queries += in_dashboard(json.loads(file.read_text()), str(file.relative_to(root)))
    recorded: set[str] = set()
    for file in rule_files(root):
        found, names = in_rules(yaml.safe_load(file.read_text()), str(file.relative_to(root)))
        queries += found
        recorded |= names
    for file in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        queries += in_page(file.read_text(), str(file.relative_to(root)))
    return queries, recorded


def rule_files(root: Path) -> list[Path]:
    """The files with rules: those in alerts, and those that the configuration of Prometheus names."""
    config = root / "collector" / "prometheus.yaml"
    named = (yaml.safe_load(config.read_text()) or {}).get("rule_files", []) if config.exists() else []
    files = {path for pattern in named for path in config.parent.glob(pattern)}
    return sorted(files | {path for path in (root / "alerts").glob("**/*") if path.suffix in (".yaml", ".yml")})


def in_rules(content: Any, file: str) -> tuple[list[Query], set[str]]:
    """The expressions of a file of rules, and the names that it records; none when it is something else."""
    rules = [rule for group in (content or {}).get("groups", []) for rule in group["rules"]]
    queries = [Query(f"{file}, {rule.get('alert') or rule['record']}", str(rule["expr"])) for rule in rules]
    return queries, {rule["record"] for rule in rules if "record" in rule}


def in_page(text: str, file: str) -> list[Query]:
    """The blocks of a page that are PromQL."""
    return [Query(file, block) for block in re.findall(r"(?ms)^```promql\n(.*?)^```$", text)]


def in_dashboard(dashboard: Mapping[str, Any], file: str) -> list[Query]:
    """The expressions of a dashboard: of its panels, variables and annotations, as far as they ask Prometheus."""
    variables = dashboard.get("templating", {}).get("list", [])
    values = {variable["name"]: _value(variable) for variable in variables}
    found = [
        (f"panel {panel.get('title')!r}", target["expr"])
        for panel in _panels(dashboard.get("panels", []))
        for target in panel.get("targets", [])
        if target.get("expr") and _asks_prometheus(target.get("datasource") or panel.get("datasource"))
    ]
    for variable in variables:
        if variable["type"] == "query" and _asks_prometheus(variable.get("datasource")):
            query = variable["query"]
            if expression := _expression(query["query"] if isinstance(query, dict) else query):
                found.append((f"variable {variable['name']!r}", expression))
    for annotation in dashboard.get("annotations", {}).get("list", []):
        expression = annotation.get("expr") or annotation.get("target", {}).get("expr")
        if expression and _asks_prometheus(annotation.get("datasource")):
            found.append((f"annotation {annotation.get('name')!r}", expression))
    return [Query(f"{file}, {place}", _expand(text, values, f"{file}, {place}")) for place, text in found]


def _panels(panels: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The panels, with those that a collapsed row holds."""
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels", []))


def _asks_prometheus(datasource: Any) -> bool:
    """Other sources have expressions, too. One that is only a name, or none at all, may be Prometheus."""
    return not isinstance(datasource, dict) or datasource.get("type", "prometheus") == "prometheus"


def _expression(query: str) -> str:
    """The PromQL in the query of a variable, or ""."""
    for function in _FUNCTIONS:
        if found := function.fullmatch(query.strip()):
            return found["expression"] or ""
    return query


def _value(variable: Mapping[str, Any]) -> str:
    value = variable.get("allValue") or (variable.get("current") or {}).get("value")
    if isinstance(value, list):
        value = "|".join(value)
    return ".+" if value in (None, "", "$__all") else str(value)


def _expand(text: str, values: Mapping[str, str], place: str) -> str:
    def replace(found: re.Match[str]) -> str:
        name = found[1] or found[3]
        if name.isdigit():
            # A group of label_replace.
            return found[0]
        if (value := {**values, **_GLOBALS}.get(name)) is None:
            raise ValueError(f"{place} has a variable that the dashboard does not define: {found[0]}")
        return json.dumps(value) if found[2] == "doublequote" else value

    return _VARIABLE.sub(replace, text)


def problems(queries: Iterable[Query], known: set[str], parse: Parse) -> list[str]:
    """What is wrong with the expressions: it is no PromQL, or needs a metric that nobody has.

    :param known: the names of the metrics that there are
    :param parse: gives the tree of an expression as Prometheus' API does, and raises ValueError when it is none
    """
    found = []
    for query in queries:
        try:
            tree = parse(query.text)
        except ValueError as error:
            found.append(f"{query.place}: {error}")
            continue
        found += [
            f"{query.place}: there is no metric {wanted}" for wanted in _selected(tree) if not _is_there(wanted, known)
        ]
    return found


def _selected(tree: Any) -> Iterator[str]:
    """The names that the selectors of a tree ask for; ``=~`` and a regular expression when it is one."""
    if isinstance(tree, list):
        for part in tree:
            yield from _selected(part)
    elif isinstance(tree, dict):
        for matcher in tree.get("matchers") or ():
            if matcher["name"] == "__name__" and matcher["type"] in ("=", "=~"):
                yield matcher["value"] if matcher["type"] == "=" else f"=~{matcher['value']}"
        for part in tree.values():
            yield from _selected(part)


def _is_there(wanted: str, known: set[str]) -> bool:
    if wanted.startswith("=~"):
        return any(re.fullmatch(wanted[2:], name) for name in known)
    return wanted in known | _ALERTS
