"""Whether the settings of compose.yaml make sense: ``python3 -m tools.compose_env [.env]``, without any package.

Compose itself names a variable that is missing; of one that is wrong it shows the value at best, and some it takes.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / ".env.example"
REQUIRED = ("POSTGRES_PASSWORD", "EXPORTER_PASSWORD", "GRAFANA_ADMIN_PASSWORD")
# Of those in collector/overlays. The others need what compose.yaml does not give: production and gateway a token and
# certificates, pull a Prometheus that scrapes the collector's page for them.
OVERLAYS = ("local", "logs", "tail-sampling")

_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
_QUOTED = re.compile(r"""(['"])((?:\\.|(?!\1)[^\\])*)\1(?:\s+#.*)?""")
# What compose would put another value for.
_REFERENCE = re.compile(r"\$[A-Za-z_{$]")


def names() -> list[str]:
    """All variables that there are."""
    return re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)


def defaults() -> dict[str, str]:
    """What holds for a variable that is not set."""
    return {name: value for _, name, value, _ in read(EXAMPLE.read_text())}


def read(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Number of the line, name, value and its quote, ``'``, ``"`` or none, for each line that sets a variable.

    :raises ValueError: a line sets none; the text names the line and not what may be a secret in it
    """
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"line {number} is not NAME=VALUE.")
        name, value = found.groups()
        quoted = _QUOTED.fullmatch(value)
        if quoted:
            yield number, name, quoted[2].replace("\\'", "'") if quoted[1] == "'" else quoted[2], quoted[1]
        elif value.startswith(("'", '"')):
            raise ValueError(
                f"line {number}, which sets {name}, has a quote without an end or text behind it: put the whole value "
                "between two single quotes, with \\' for one inside."
            )
        else:
            yield number, name, value.partition(" #")[0].rstrip(), ""


def in_file(text: str) -> Iterator[str]:
    """What is wrong with the file itself, one sentence each."""
    known = names()
    for number, name, value, quote in read(text):
        if name not in known and not name.startswith(("COMPOSE_", "DOCKER_")):
            near = difflib.get_close_matches(name, known, 1)
            yield f"{name} in line {number} is no variable of compose.yaml" + (f": is it {near[0]}?" if near else ".")
        elif quote != "'" and _REFERENCE.search(value):
            yield f"{name} has a $ that compose reads as the name of a variable: put the value into single quotes."
        elif quote == '"' and "\\" in value:
            yield f"{name} has a \\ that compose does not take as it is: put the value into single quotes."


def wrong(env: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the values, one sentence each; no sentence has a password in it."""
    for name in REQUIRED:
        if not env.get(name):
            yield f"{name} is missing: set it in .env to a password of your own."
        elif env[name] != env[name].strip() or not env[name].isprintable():
            # Most servers would leave them out.
            yield f"{name} begins or ends with a space, or has a control character: choose another password."
    ports: dict[str, str] = {}
    for name, value in {**defaults(), **{name: env[name] for name in names() if env.get(name)}}.items():
        if name.endswith("_PORT"):
            if not re.fullmatch("[0-9]{1,5}", value) or not 0 < int(value) < 65536:
                yield f"{name} is {value!a}, which is no port: set it to a number from 1 to 65535."
            elif other := ports.setdefault(str(int(value)), name).removeprefix(name):
                yield f"{name} and {other} are both {value}: choose another for one of them."
        elif name in ("GRAFANA_URL", "JAEGER_PUBLIC_URL"):
            if not _is_address(value):
                yield f"{name} is {value!a}, which is no address: write it like http://127.0.0.1:3000."
        elif name in ("ENVIRONMENT", "HOST_NAME"):
            if not re.fullmatch(r"[\w.-]+", value):
                yield f"{name} is {value!a}: use letters, digits and ._- only."
        elif name == "HOST_ROOT" and value and not value.startswith("/"):
            yield f"{name} is {value!a}: set it to a path in the container of the collector, or leave it empty."
    yield from _logs(env)


def _logs(env: Mapping[str, str]) -> Iterator[str]:
    overlay = env.get("COLLECTOR_OVERLAY") or "local"
    exporter = env.get("APP_LOGS_EXPORTER") or "none"
    profiles = [profile for profile in env.get("COMPOSE_PROFILES", "").split(",") if profile]
    if overlay not in OVERLAYS:
        yield f"COLLECTOR_OVERLAY is {overlay!a}: choose from {', '.join(OVERLAYS)}."
    if exporter not in ("none", "otlp"):
        yield f"APP_LOGS_EXPORTER is {exporter!a}: choose none or otlp."
    if set(profiles) - {"logs", "*"}:
        yield f"COMPOSE_PROFILES is {','.join(profiles)!a}: the only profile is logs."
    elif bool(profiles) != (overlay == "logs"):
        yield "COMPOSE_PROFILES and COLLECTOR_OVERLAY disagree: with the store of logs both are logs, without it neither."
    if exporter == "otlp" and overlay != "logs":
        yield "APP_LOGS_EXPORTER is otlp, but the collector takes logs only with COLLECTOR_OVERLAY=logs."


def _is_address(value: str) -> bool:
    if re.search(r"""[\s"'<>\\^`{|}$]""", value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def main() -> None:
    """Say what is wrong, or that nothing is; the environment wins over the file, as with compose."""
    file = Path(sys.argv[1] if sys.argv[1:] else ROOT / ".env")
    try:
        text = file.read_text(encoding="utf-8-sig")
        given = {name: value for _, name, value, _ in read(text)}
        found = [*in_file(text), *wrong({**given, **os.environ})]
    except FileNotFoundError:
        sys.exit(f"{file} is missing: copy .env.example to it and set the passwords.")
    except (OSError, UnicodeDecodeError) as error:
        sys.exit(f"{file} cannot be read: {error}.")
    except ValueError as error:
        sys.exit(f"{file}: {error}")
    if found:
        sys.exit("\n".join(found))
    print(f"{file} is fine.")


if __name__ == "__main__":
    main()
