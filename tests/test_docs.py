"""The documentation is complete, its links lead somewhere, its examples work, and its facts are those of the code."""

from __future__ import annotations

import ast
import json
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import pytest
import yaml
from opentelemetry import propagate

from otel_cc import distro, guard, log_format, report, request_id, settings
from otel_cc.celery import beat, message, queue_time
from otel_cc.cli.verbs import app as cli
from otel_cc.http import capture
from otel_cc.local.process import wait_until
from otel_cc.local.sink import Sink
from otel_cc.sql import budget, comment, statement
from otel_cc.tracing.propagator import RequestIdPropagator
from tests.conftest import Launch
from tools import interpreters, venv

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]

every_page = pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
every_doc = pytest.mark.parametrize("page", DOCS, ids=[page.stem for page in DOCS])


@dataclass(frozen=True)
class Block:
    """A fenced piece of a page.

    :param place: for the reader of a failure
    """

    place: str
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    for found in re.finditer(r"^```(.*?)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        line = page.read_text().count("\n", 0, found.start()) + 1
        yield Block(f"{page.name}:{line}", found[1], found[2])


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def doc(name: str) -> Path:
    return ROOT / "docs" / f"{name}.md"


def section(page: Path, heading: str) -> str:
    """What stands below a heading, up to the next one of any level."""
    return re.split(r"^#+ .*\n", page.read_text().partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables in a text, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    heads = {number - 1 for number, row in enumerate(cells) if row[0] == "---"}
    return [row for number, row in enumerate(cells) if number not in heads and row[0] != "---"]


ALL_BLOCKS = [block for page in PAGES for block in blocks(page)]


def of(*languages: str) -> pytest.MarkDecorator:
    chosen = [block for block in ALL_BLOCKS if block.language in languages]
    assert chosen
    return pytest.mark.parametrize("block", chosen, ids=[block.place for block in chosen])


# Pages


@every_doc
def test_a_page_ends_in_how_to_verify_it_with_commands(page: Path) -> None:
    headings = re.findall(r"^#+ .*", prose(page), re.MULTILINE)
    assert headings[0].startswith("# ")
    assert headings[-1] == "## Verify it worked"
    assert "```sh\n" in section(page, headings[-1])


@every_doc
def test_the_readme_leads_to_every_page(page: Path) -> None:
    assert f"(docs/{page.name})" in README.read_text()


def test_the_readme_is_short_and_gives_the_commands() -> None:
    text = README.read_text()
    assert len(text.splitlines()) < 150
    for command in ("make demo", "make test", "pip install 'otel-cc[fastapi,sqlalchemy,celery]'"):
        assert command in text


@every_page
def test_lines_of_prose_are_short(page: Path) -> None:
    long = [line for line in prose(page).splitlines() if len(line) > 120 and not line.startswith("|")]
    assert long == []


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    titles = re.findall(r"^#+ (.*)", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_every_link_inside_of_the_checkout_resolves(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert ROOT in found.parents, target
        if anchor:
            assert anchor in anchors(found), target


# Examples


def test_every_block_says_what_it_is() -> None:
    assert {block.language for block in ALL_BLOCKS} <= {"sh", "python", "yaml", "json", "sql", "promql", "text"}


@of("sh")
def test_shell_parses(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@of("python")
def test_python_parses(block: Block) -> None:
    ast.parse(block.text)


@of("json")
def test_json_parses(block: Block) -> None:
    for line in block.text.splitlines():
        json.loads(line)


@of("yaml")
def test_yaml_parses(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.text), dict)


@every_page
def test_what_is_called_exists(page: Path) -> None:
    text = "\n".join(
        [*(block.text for block in blocks(page) if block.language == "sh"), *re.findall(r"`(.*?)`", prose(page))]
    )
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)
    verbs = {command.callback.__name__ for command in cli.registered_commands if command.callback}
    verbs |= {group.name for group in cli.registered_groups if group.name}
    assert set(re.findall(r"^otel-cc (\w+)", text, re.MULTILINE)) <= verbs


@every_page
def test_every_variable_of_ours_exists(page: Path) -> None:
    known = {setting.variable for setting in settings.SETTINGS} | settings.ELSEWHERE | settings.INTERNAL
    assert set(re.findall(r"OTEL_CC_[A-Z_]*[A-Z]", page.read_text())) <= known


@every_page
def test_every_module_that_is_named_exists(page: Path) -> None:
    for name in re.findall(r"`((?:otel_cc|examples|tests)/[\w/.]*)`", page.read_text()):
        assert (ROOT / name).exists(), name


def test_the_configuration_file_works_as_it_stands(launch: Launch, sink: Sink) -> None:
    (block,) = [block for block in blocks(doc("launcher")) if block.language == "yaml"]
    text = block.text.replace("http://localhost:4318", sink.endpoint)
    # All of it, and soon.
    text = text.replace("ratio: 0.5", "ratio: 1.0").replace("- batch:\n", "- batch:\n        schedule_delay: 200\n")
    file = launch.folder / "otel.yaml"
    file.write_text(text)
    server = launch.uvicorn(files=HELLO, env={"OTEL_CONFIG_FILE": str(file), "OTEL_TRACES_SAMPLER": "always_off"})
    httpx.get(server.url, headers={"X-Request-ID": "order-42"}, timeout=30)
    (span,) = sink.wait_spans(1)
    assert (span.service, span.scope, span.attributes["request.id"]) == ("shop-api", "otel_cc.http", "order-42")
    server.process.stop()
    assert "http.server.request.duration" in sink.metrics()


HELLO = {"app.py": "from fastapi import FastAPI\n\napp = FastAPI()\n"}


@pytest.mark.parametrize(("instrument", "shown"), [(True, "WARNING [] hello"), (False, "WARNING [-] hello")])
def test_the_log_format_of_an_application_works_with_and_without_us(
    launch: Launch, instrument: bool, shown: str
) -> None:
    (block,) = [block for block in blocks(doc("logs")) if block.language == "python"]
    files = {"example.py": f'{block.text}\nlogging.warning("hello")\n'}
    process = launch([sys.executable, "example.py"], files=files, instrument=instrument)
    assert process.wait(60) == 0
    assert process.output().strip().splitlines()[-1] == shown


def test_the_one_line_check_of_the_log_fields_works(launch: Launch) -> None:
    code = re.search(r"opentelemetry-instrument python -c '(.*)'", doc("logs").read_text())
    assert code is not None
    process = launch([sys.executable, "-c", code[1]])
    assert process.wait(60) == 0
    assert "[] outside of a request" in process.output()


def test_a_thread_with_the_callers_context_has_the_ids(launch: Launch, sink: Sink) -> None:
    (block,) = [block for block in blocks(doc("troubleshooting")) if block.language == "python"]
    body = block.text.replace("def work() -> None: ...", "def work() -> None:\n    found.append(current_request_id())")
    app = f"""
from fastapi import FastAPI
from otel_cc import current_request_id

app = FastAPI()


@app.get("/")
def root() -> list:
    import time
    found = []
{"".join(f"    {line}" if line.strip() else line for line in body.splitlines(keepends=True))}
    while not found:
        time.sleep(0.01)
    return found
"""
    server = launch.uvicorn(files={"app.py": app})
    assert httpx.get(server.url, headers={"X-Request-ID": "order-42"}, timeout=30).json() == ["order-42"]


def test_behind_a_proxy_the_client_is_the_forwarded_one(launch: Launch, sink: Sink) -> None:
    server = launch.uvicorn(
        "--forwarded-allow-ips", "127.0.0.1", files=HELLO, env={"OTEL_CC_TRUST_INBOUND": "127.0.0.0/8"}
    )
    headers = {"X-Request-ID": "order-42"}
    assert httpx.get(server.url, headers=headers, timeout=30).headers["x-request-id"] == "order-42"
    forwarded = httpx.get(server.url, headers={**headers, "X-Forwarded-For": "203.0.113.9"}, timeout=30)
    assert re.fullmatch("[0-9a-f]{32}", forwarded.headers["x-request-id"])


def test_a_taken_port_costs_the_metrics_only(launch: Launch, sink: Sink) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = {
            "OTEL_METRICS_EXPORTER": "prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(taken.getsockname()[1]),
        }
        server = launch.uvicorn(files=HELLO, env=env)
        assert "x-request-id" in httpx.get(server.url, timeout=30).headers
        sink.wait_spans(1)
        said = f"metrics are not served: port {taken.getsockname()[1]}"
        wait_until(lambda: said in server.process.output(), 30, "the line about the port")
    assert '## "metrics are not served"' in doc("troubleshooting").read_text()


# Facts


@pytest.mark.parametrize("setting", settings.SETTINGS, ids=[setting.variable for setting in settings.SETTINGS])
def test_every_setting_is_explained_beside_its_own_page(setting: settings.Setting) -> None:
    named = re.compile(f"`{setting.variable}(=.*?)?`").search
    assert any(named(page.read_text()) for page in DOCS if page.stem != "settings")


@every_page
def test_the_defaults_are_those_of_the_code(page: Path) -> None:
    known = {
        f"`{setting.variable}`": f"`{setting.default}`" if setting.default else "empty" for setting in settings.SETTINGS
    }
    given = {row[0]: row[1] for row in rows(page.read_text()) if len(row) > 2 and row[0] in known}
    assert given == {variable: known[variable] for variable in given}


def test_the_defaults_of_the_distribution_are_those_of_the_code() -> None:
    assert {row[0]: row[1] for row in rows(section(doc("launcher"), "## Defaults"))} == {
        f"`{name}`": f"`{value}`" for name, value in distro.DEFAULTS.items()
    }


def test_the_accepted_ids_are_those_of_the_code() -> None:
    text = section(doc("request-ids"), "## What is accepted")
    assert f"1 to {request_id.MAX_LENGTH} characters" in text
    assert request_id.accept("a" * request_id.MAX_LENGTH)
    assert request_id.accept("a" * (request_id.MAX_LENGTH + 1)) is None
    (listed,) = re.findall(r"Letters and digits of ASCII, and (.*)\.", text)
    marks = set(re.findall(r"`(.)`", listed))
    assert {
        chr(code) for code in range(128) if request_id.accept(f"a{chr(code)}a") and not chr(code).isalnum()
    } == marks
    assert {mark for mark in marks if request_id.accept(mark)} == set()


def test_the_table_of_ids_is_what_the_code_does() -> None:
    table = rows(section(doc("request-ids"), "## From the request to the IDs"))
    assert len(table) == 10
    for incoming, traceparent, text, trace in table:
        value = re.match(r"`(.*?)`", incoming)
        accepted = request_id.accept(value[1]) if value else None
        assert text == ("as it came" if accepted else "the trace ID, as 32 hex digits")
        if traceparent == "yes":
            assert trace == "that of `traceparent`"
        else:
            same = accepted is not None and request_id.trace_id_of(accepted) is not None
            assert trace == ("the same 128 bits" if same else "new and random")


def test_the_statements_with_a_comment_are_those_of_the_code() -> None:
    text = section(doc("sql-comments"), "## Which statements get one")
    (sentence,) = re.findall(r"everything but (.*?)\s+\(so", text, re.DOTALL)
    assert set(re.findall(r"`([A-Z]+)`", sentence)) == statement._COMMENTABLE
    (left_alone,) = re.findall(r"\(so (.*?) and DDL\)", text)
    assert not set(re.findall(r"`([A-Z]+)`", left_alone)) & statement._COMMENTABLE


def test_the_costs_of_a_comment_are_those_of_the_code() -> None:
    share = float(next(s.default for s in settings.SETTINGS if s.variable == "OTEL_CC_SQL_COMMENT_BUDGET"))
    documented: dict[str, tuple[str, str]] = {}
    for drivers, cost, when in rows(section(doc("sql-comments"), "## What it costs"))[-4:]:
        documented |= dict.fromkeys(drivers.split(", "), (cost, when))

    def words(cost: budget.Cost) -> tuple[str, str]:
        text, least = f"{cost.seconds * 1e6:.0f} us", f"{cost.seconds / share * 1e3:.1f} ms"
        if cost.round_trips:
            return (
                f"{text} and {cost.round_trips} round trips",
                f"{least} and {cost.round_trips / share:.0f} round trips, or more",
            )
        return text, f"{least} or more"

    expected = {name: words(cost) for name, cost in budget.COSTS.items()} | dict.fromkeys(
        budget.FREE, ("none", "any time")
    )
    expected |= dict.fromkeys(("asyncpg", "others"), words(budget.WORST))
    # Named by nobody.
    del expected["pysqlcipher"]
    assert documented == expected


def test_the_limits_of_a_comment_are_those_of_the_code() -> None:
    text = doc("sql-comments").read_text()
    assert f"cut at {comment.LIMIT} characters" in text
    assert f"up to {statement.TEXT_LIMIT:,} characters" in text
    encoded = {mark for mark in "._~:/+=@-" if comment.quote(mark) != mark}
    (sentence,) = re.findall(r"In an ID only (.*?) are encoded", text)
    assert set(re.findall(r"`(.)`", sentence)) == encoded


def test_the_example_of_a_comment_is_what_the_code_writes() -> None:
    tags = {
        "db_driver": "psycopg",
        "framework": "fastapi:0.165.0",
        "request_id": "order-42",
        "route": "/orders/{order_id}",
        "traceparent": "00-071eb4d2283a4d38a66efd23c275abdc-746b6352a1df597e-03",
    }
    (example,) = [block for block in blocks(doc("sql-comments")) if block.text.startswith("/*db_driver")]
    assert example.text.replace("\n", "").startswith(comment.comment(tags) + " SELECT")


def test_the_headers_of_a_message_are_those_of_the_code() -> None:
    text = section(doc("celery"), "## What is written into a message")
    written = {name for row in rows(text)[:-1] for name in re.findall(r"`(.*?)`", row[0])}
    others = set(propagate.get_global_textmap().fields) | RequestIdPropagator().fields
    assert written == others | {message.REQUEST_ID, queue_time.HEADER, beat.HEADER}
    assert f"`{message.FOREIGN_REQUEST_ID}`" in text


def test_the_variables_of_the_captured_headers_are_those_of_the_code() -> None:
    named = re.findall(r"`(OTEL_INSTRUMENTATION_HTTP_\w+)`", doc("data-path").read_text())
    assert named == [capture._REQUEST, capture._RESPONSE, capture._SANITIZE]


def test_the_example_of_a_line_in_json_is_what_the_code_writes() -> None:
    (example,) = [block.text for block in blocks(doc("logs")) if '"plain"' in block.text]
    line = json.loads(example)
    moment = datetime.fromisoformat(line.pop("timestamp").replace("Z", "+00:00")).timestamp()
    given = {"created": moment, "name": line.pop("logger"), "levelname": line.pop("level"), "msg": line.pop("message")}
    assert log_format.JsonFormatter().format(logging.makeLogRecord({**given, **line})) == example.strip()


def test_the_last_line_of_the_demo_is_quoted_as_it_is_said() -> None:
    (quoted,) = re.findall(r"last line should say that `(.*?)`", doc("data-path").read_text())
    assert f'"{quoted}"' in (ROOT / "otel_cc" / "cli" / "demo.py").read_text()


def test_other_tracers_are_those_of_the_code() -> None:
    (heading,) = re.findall(r'^## "also active here: (.*)', doc("troubleshooting").read_text(), re.MULTILINE)
    assert set(re.findall(r"\w+", heading)) == {*report._OTHER_TRACERS.values(), "or", "sentry"}


def test_our_own_failure_is_quoted_as_it_is_logged() -> None:
    assert guard.FAILED % "the SQL comment" in doc("data-path").read_text()


def test_the_supported_versions_are_those_that_are_tested() -> None:
    packages = {
        "OpenTelemetry SDK": "opentelemetry-sdk",
        "FastAPI": "fastapi",
        "SQLAlchemy": "sqlalchemy",
        "Celery": "celery",
    }

    def versions(lock: str, package: str) -> set[tuple[int, int]]:
        pinned = [entry.split()[0] for entry in venv.pins((ROOT / "constraints" / f"{lock}.lock").read_text())]
        found = [pin.partition("==")[2] for pin in pinned if pin.partition("==")[0] == package]
        return {(int(major), int(minor)) for major, minor in (version.split(".")[:2] for version in found)}

    table = {row[0]: (row[1], row[2]) for row in rows(section(README, "## Supported versions"))}
    expected = {
        name: tuple(
            ".".join(map(str, choose(versions(lock, package)))) for lock, choose in (("oldest", min), ("newest", max))
        )
        for name, package in packages.items()
    }
    supported = interpreters.supported()
    assert table == {"Python": (supported[0], supported[-1]), **expected}
