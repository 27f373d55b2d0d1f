"""No shipped query needs a metric that a recorded scrape of a running stack lacks: a renamed one fails the build."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from otel_cc.local import prometheus
from otel_cc.local.process import Processes
from tests.stack import promql
from tests.stack.test_series import RECORDED

ROOT = Path(__file__).parent.parent.parent
KNOWN = {name for series in RECORDED.values() for name in series}
REQUESTS = "http_server_request_duration_seconds_count"


@pytest.fixture(scope="module")
def parse() -> Iterator[promql.Parse]:
    """The parser of a real Prometheus."""
    with Processes() as processes, httpx.Client(trust_env=False, timeout=30) as client:
        server = prometheus.start(processes)

        def ask(query: str) -> Any:
            answer = client.post(f"{server.url}/api/v1/parse_query", data={"query": query}).json()
            if answer["status"] != "success":
                raise ValueError(answer["error"])
            return answer["data"]

        yield ask


def test_every_metric_that_a_shipped_query_needs_is_there(parse: promql.Parse) -> None:
    queries, recorded = promql.shipped(ROOT)
    assert {"docs/metrics.md", "docs/celery-metrics.md", "docs/collector.md"} <= {query.place for query in queries}
    assert promql.problems(queries, KNOWN | recorded, parse) == []


def panel(title: str, expression: str, **more: Any) -> dict[str, Any]:
    return {"title": title, "targets": [{"refId": "A", "expr": expression}], **more}


DASHBOARD = {
    "panels": [
        panel("good", f'sum by (job) (rate({REQUESTS}{{job=~"$job"}}[$__rate_interval])) > ${{floor}}'),
        panel("text", 'label_replace(vector(1), "id", ${id:doublequote}, "", "(.*)$1")'),
        panel("by name", '{__name__=~"http_server_.*_count"} or {__name__="up"} unless ALERTS'),
        panel("bad", f"{REQUESTS} / on (job) no_such_total"),
        panel("no PromQL", "sum("),
        panel("logs", "no_such_field:=1", datasource={"type": "victoriametrics-logs-datasource", "uid": "logs"}),
        {"type": "row", "panels": [panel("inside", '{__name__=~"no_such.*"}')]},
    ],
    "templating": {
        "list": [
            {"name": "job", "type": "query", "query": {"query": "label_values(no_such_info, job)"}},
            {"name": "instance", "type": "query", "query": 'label_values(target_info{job=~"$job"}, instance)'},
            {"name": "any", "type": "query", "query": "label_values(job)"},
            {"name": "result", "type": "query", "query": "query_result(no_such_result)"},
            {"name": "floor", "type": "custom", "current": {"value": "0.5"}},
            {"name": "id", "type": "textbox", "query": "", "current": {"value": 'a"b'}},
        ]
    },
    "annotations": {"list": [{"name": "starts", "expr": 'changes(no_such_time{job=~"$job"}[5m]) > 0'}]},
}
RULES = """
groups:
  - name: shop
    rules:
      - {record: "job:requests:rate5m", expr: "sum by (job) (rate(http_server_request_duration_seconds_count[5m]))"}
      - {alert: Known, expr: "job:requests:rate5m > 100"}
      - {alert: Unknown, expr: "no_such_ratio > 1"}
"""


def test_an_unknown_metric_is_named_with_its_place(tmp_path: Path, parse: promql.Parse) -> None:
    for name, text in {
        "grafana/dashboards/shop.json": json.dumps(DASHBOARD),
        "alerts/shop.yaml": RULES,
        "alerts/receivers.yaml": "route: {receiver: nobody}\n",
        "collector/prometheus.yaml": 'rule_files: ["rules/*.yml"]\n',
        "collector/rules/more.yml": "groups: [{name: more, rules: [{alert: More, expr: no_such_count}]}]\n",
        "docs/page.md": f"```promql\n{REQUESTS}\n```\n\n```promql\nno_such_block\n```\n",
        "README.md": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    queries, recorded = promql.shipped(tmp_path)
    assert recorded == {"job:requests:rate5m"}
    found = promql.problems(queries, KNOWN | recorded, parse)
    assert [problem for problem in found if "there is no metric" not in problem] == [
        "grafana/dashboards/shop.json, panel 'no PromQL': invalid parameter \"query\": 1:5: parse error: unclosed "
        "left parenthesis"
    ]
    assert [problem for problem in found if "there is no metric" in problem] == [
        "grafana/dashboards/shop.json, panel 'bad': there is no metric no_such_total",
        "grafana/dashboards/shop.json, panel 'inside': there is no metric =~no_such.*",
        "grafana/dashboards/shop.json, variable 'job': there is no metric no_such_info",
        "grafana/dashboards/shop.json, variable 'result': there is no metric no_such_result",
        "grafana/dashboards/shop.json, annotation 'starts': there is no metric no_such_time",
        "alerts/shop.yaml, Unknown: there is no metric no_such_ratio",
        "collector/rules/more.yml, More: there is no metric no_such_count",
        "docs/page.md: there is no metric no_such_block",
    ]


def test_a_variable_that_the_dashboard_lacks_is_named() -> None:
    with pytest.raises(ValueError, match=r"a\.json, panel 'p' has a variable .* does not define: \$nobody"):
        promql.in_dashboard({"panels": [panel("p", "up{job=~'$nobody'}")]}, "a.json")
