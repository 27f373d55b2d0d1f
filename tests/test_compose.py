"""compose.yaml, read by the reference parser: the same files and versions as the stack of processes, and nothing open."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from otel_cc import distro
from otel_cc.local import (
    alertmanager,
    collector,
    jaeger,
    postgres,
    postgres_exporter,
    programs,
    prometheus,
    redis_exporter,
    stack,
    valkey,
    victoria_logs,
)
from otel_cc.local.postgres_exporter import ROLE
from otel_cc.local.process import Processes
from tools import versions
from tools.compose_env import OVERLAYS

pytestmark = pytest.mark.programs

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "compose.yaml"
PORTS = ROOT / "compose.ports.yaml"
EXAMPLE = ROOT / ".env.example"
DATASOURCES = ROOT / "grafana" / "provisioning" / "datasources" / "datasources.yaml"
REQUIRED = ("POSTGRES_PASSWORD", "EXPORTER_PASSWORD", "GRAFANA_ADMIN_PASSWORD")
SECRETS = {name: f"secret of {name}" for name in REQUIRED}
# What may be reached from this machine; everything else only from inside.
PUBLISHED = {"app": 8000, "grafana": 3000}
# They do their work and end, before others start.
ONE_SHOT = {"volumes", "collector-queues"}
# Their images have no program that could ask: the Dockerfiles begin with scratch or distroless.
BARE = {"collector", "valkey-exporter", "victoria-logs"}


def config(*files: Path, profiles: tuple[str, ...] = ("*",), **env: str) -> subprocess.CompletedProcess[str]:
    command = [programs.find("compose-config")]
    for profile in profiles:
        command += ["-profile", profile]
    return subprocess.run(
        [*command, *map(str, files or (COMPOSE,))],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **env},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def parsed(*files: Path, profiles: tuple[str, ...] = ("*",), **env: str) -> dict[str, Any]:
    done = config(*files, profiles=profiles, **{**SECRETS, **env})
    assert (done.returncode, done.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = parsed()["services"]
    return found


@pytest.fixture(scope="module")
def raw() -> dict[str, Any]:
    """The services as they are written: the parser drops our own keys."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def on_host(service: dict[str, Any], path: str) -> Path:
    """Where in the checkout a path of a container is."""
    for volume in service["volumes"]:
        if volume["type"] == "bind" and PurePosixPath(path).is_relative_to(volume["target"]):
            return Path(volume["source"]) / PurePosixPath(path).relative_to(volume["target"])
    raise AssertionError(f"nothing is mounted at {path}")


def variables(*files: Path) -> set[str]:
    return {name for file in files for name in re.findall(r"(?<!\$)\$\{([A-Z_]+)", file.read_text())}


def test_every_service_that_is_promised_is_there(services: dict[str, Any]) -> None:
    assert set(services) == {
        *("app", "worker", "beat", "postgres", "valkey", "collector", "prometheus", "alertmanager", "jaeger"),
        *("grafana", "postgres-exporter", "valkey-exporter", "victoria-logs", "volumes", "collector-queues"),
    }
    assert "victoria-logs" not in parsed(profiles=())["services"]
    assert "victoria-logs" in parsed(profiles=("logs",))["services"]


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, ""])
def test_a_password_that_is_missing_is_named_with_what_to_do(name: str, value: str | None) -> None:
    env = {other: text for other, text in SECRETS.items() if other != name}
    done = config(**env, **({} if value is None else {name: value}))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"required variable {name} is missing a value: set {name} in .env to a password of your own" in done.stderr


def test_the_example_alone_starts_nothing() -> None:
    command = [programs.find("compose-config"), "-env-file", str(EXAMPLE), str(COMPOSE)]
    done = subprocess.run(command, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert all(name in done.stderr for name in REQUIRED)


def test_a_value_that_is_no_port_is_an_error_that_shows_it() -> None:
    done = config(**SECRETS, GRAFANA_PORT="http")
    assert done.returncode == 1
    assert "http" in done.stderr


def test_every_variable_is_in_the_example_and_in_the_documentation() -> None:
    used = variables(COMPOSE, PORTS)
    given = set(re.findall(r"^#?([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert used | {"COMPOSE_PROFILES"} == given
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "compose.md").read_text(), re.MULTILINE))
    assert documented == given


def test_the_example_gives_the_defaults() -> None:
    given = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE))
    for name, default in re.findall(r"\$\{([A-Z_]+):-(.*?)\}", COMPOSE.read_text() + PORTS.read_text()):
        assert given[name] == default, name
    assert [given[name] for name in REQUIRED] == ["", "", ""]


def test_images_are_those_of_the_versions_file(services: dict[str, Any]) -> None:
    listed = json.loads(versions.FILE.read_text())
    entries = {**listed["programs"], **listed["images"]}
    known = {entry["image"] for entry in entries.values() if "image" in entry}
    used = {service["image"] for service in services.values() if "build" not in service}
    built = {(ROOT / service["build"]["dockerfile"]).read_text() for service in services.values() if "build" in service}
    used |= {image for text in built for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE)}
    used = {image.partition("@")[0] for image in used}
    assert used == known
    for image in used:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z-]+)?$", image), image


def test_what_is_built_here_has_no_name_that_a_registry_would_be_asked_for(services: dict[str, Any]) -> None:
    """Services that build one name at once fail with "already exists", and `config --lock-image-digests` asks for it."""
    built = {name: service.get("image") for name, service in services.items() if "build" in service}
    assert built == dict.fromkeys(("app", "worker", "beat", "collector-queues"))


def test_only_the_app_and_grafana_are_published_and_only_here(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert {name: [port["target"] for port in ports] for name, ports in published.items()} == {
        name: [port] for name, port in PUBLISHED.items()
    }
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}
    outside = {name for name, service in services.items() if set(service["networks"]) - {"inside"}}
    assert outside == set(PUBLISHED)
    assert parsed()["networks"]["inside"]["internal"] is True


def test_the_other_pages_are_published_by_the_second_file_on_the_ports_asked_for() -> None:
    asked = {
        "PROMETHEUS_PORT": "prometheus",
        "ALERTMANAGER_PORT": "alertmanager",
        "POSTGRES_EXPORTER_PORT": "postgres-exporter",
        "JAEGER_PORT": "jaeger",
        "GRAFANA_PORT": "grafana",
        "APP_PORT": "app",
    }
    env = {name: str(20000 + number) for number, name in enumerate(asked)}
    found = parsed(COMPOSE, PORTS, **env)["services"]
    for name, service in asked.items():
        (port,) = found[service]["ports"]
        assert (port["host_ip"], port["published"]) == ("127.0.0.1", env[name])


def test_every_service_is_bounded_and_has_no_rights(services: dict[str, Any], raw: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["cpus"] > 0, name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"], name
        # The one that gives the volumes away runs once and can do nothing else.
        if name == "volumes":
            assert (service["user"], service["cap_add"], service["restart"]) == ("0:0", ["CHOWN"], "no")
        else:
            assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
            assert "cap_add" not in service, name
        assert ("healthcheck" in service) != bool(raw[name].get("x-no-healthcheck")), name
        assert (service["restart"] == "no") == (name in ONE_SHOT), name
    assert {name for name, service in services.items() if "healthcheck" not in service} == BARE | ONE_SHOT


def test_a_root_is_read_only_unless_compose_has_to_copy_a_secret_into_it(services: dict[str, Any]) -> None:
    """Where both meet, compose creates the container and does not start it; its parser takes it."""
    secrets = yaml.safe_load(COMPOSE.read_text())["secrets"]
    copied = {name for name, secret in secrets.items() if "file" not in secret}
    for name, service in services.items():
        gets = {secret["source"] for secret in service.get("secrets", [])} & copied
        assert service.get("read_only", False) is not bool(gets), name


def test_dependencies_wait_for_what_can_be_waited_for(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if other in ONE_SHOT:
                assert how["condition"] == "service_completed_successfully"
            else:
                healthy = "healthcheck" in services[other]
                assert how["condition"] == ("service_healthy" if healthy else "service_started"), (name, other)


def test_no_secret_is_in_a_command_or_in_the_environment_of_a_server(services: dict[str, Any]) -> None:
    for name, service in services.items():
        shown = json.dumps({key: value for key, value in service.items() if key != "environment"})
        assert "secret of" not in shown, name
        holders = [key for key, value in (service.get("environment") or {}).items() if "secret of" in str(value)]
        assert holders == (["PGPASSWORD"] if name in {"app", "worker", "beat"} else []), name


def test_what_is_mounted_from_the_checkout_is_there_and_read_only(services: dict[str, Any]) -> None:
    mounted = set()
    for service in services.values():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), volume["source"]
                assert volume["read_only"] is True
                mounted.add(str(Path(volume["source"]).relative_to(ROOT)))
    # The very files that otel_cc/local starts the processes with.
    assert {"collector", "collector/jaeger.yaml", "collector/alertmanager.yaml"} <= mounted
    assert {"collector/postgres-exporter", "grafana/provisioning"} <= mounted


def test_rules_of_prometheus_are_looked_for_where_the_stack_of_processes_does(services: dict[str, Any]) -> None:
    source = ROOT / "collector" / "prometheus.yaml"
    settings = yaml.safe_load(source.read_text())
    (place,) = re.findall(r"--config\.file=(\S+)", "\n".join(services["prometheus"]["command"]))
    assert on_host(services["prometheus"], place) == source
    found = [on_host(services["prometheus"], str(Path(place).parent / rules)) for rules in settings["rule_files"]]
    assert [*map(str, found)] == prometheus.render(settings, source.parent, {}, None, "")["rule_files"]


@pytest.fixture(scope="module")
def processes() -> Iterator[dict[str, list[str]]]:
    """The command lines of the stack of processes, by the name of the service."""
    with Processes() as running:
        database = postgres.start(running, config=stack.DATABASE)
        started = {
            "prometheus": prometheus.start(running, wait=False),
            "alertmanager": alertmanager.start(running, wait=False),
            "jaeger": jaeger.start(running, wait=False),
            "postgres-exporter": postgres_exporter.start(running, database, wait=False),
            "valkey-exporter": redis_exporter.start(running, valkey.start(running), wait=False),
            "victoria-logs": victoria_logs.start(running, wait=False),
        }
        commands = {name: [*server.process.argv] for name, server in started.items()}
        yield {name: command[1:] for name, command in {**commands, "collector": collector.command()}.items()}


def shape(argument: str) -> str:
    """An argument without what a container has elsewhere: addresses, and folders."""
    name, equals, value = argument.partition("=")
    if value.startswith("/"):
        value = Path(value).name if Path(value).suffix else "a folder"
    return name + equals + re.sub(r"[\w.-]*:\d+$", "an address", value)


@pytest.mark.parametrize(
    "name",
    ["collector", "prometheus", "alertmanager", "jaeger", "postgres-exporter", "valkey-exporter", "victoria-logs"],
)
def test_a_program_has_the_arguments_that_it_has_in_the_stack_of_processes(
    services: dict[str, Any], processes: dict[str, list[str]], name: str
) -> None:
    given: list[str] = []
    for argument in services[name]["command"]:
        file = argument.startswith("@")
        given += on_host(services[name], argument[1:]).read_text().split() if file else [argument]
    assert sorted(map(shape, given)) == sorted(map(shape, processes[name]))


def test_postgresql_has_the_settings_that_it_has_in_the_stack_of_processes(services: dict[str, Any]) -> None:
    given = dict(argument.removeprefix("-c").split("=", 1) for argument in services["postgres"]["command"][1:])
    assert stack.DATABASE.items() <= given.items()


def test_nobody_can_stop_or_empty_a_prometheus_whose_page_is_published() -> None:
    """A web page may POST to 127.0.0.1, too."""
    flags = (ROOT / "collector" / "prometheus.flags").read_text().split()
    assert not {"--web.enable-lifecycle", "--web.enable-admin-api"} & set(flags)


def test_damaged_queue_files_are_moved_aside_before_the_collector_starts(
    services: dict[str, Any], tmp_path: Path
) -> None:
    check, runs = services["collector-queues"], services["collector"]
    assert runs["depends_on"]["collector-queues"]["condition"] == "service_completed_successfully"
    assert check["user"] == runs["user"]
    (volume,) = check["volumes"]
    assert volume in runs["volumes"]
    assert f"${{env:OTEL_CC_COLLECTOR_STATE:-{volume['target']}}}" in (ROOT / "collector" / "base.yaml").read_text()
    assert "OTEL_CC_COLLECTOR_STATE" not in runs["environment"]

    python, *arguments, state = check["command"]
    assert (python, state) == ("python", volume["target"])
    (tmp_path / "queue").mkdir()
    (tmp_path / "queue" / "file").write_text("no queue")
    command = [sys.executable, *arguments, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
    assert not (tmp_path / "queue" / "file").exists()
    assert len([*(tmp_path / "damaged").iterdir()]) == 1


def test_every_volume_is_given_to_the_user_of_the_service_that_writes_it(services: dict[str, Any]) -> None:
    given: dict[str, str] = {}
    for owner, names in re.findall(r"^chown (\S+) (.*)$", services["volumes"]["command"][0], re.MULTILINE):
        given |= dict.fromkeys(names.split(), owner)
    assert set(given) == set(parsed()["volumes"]) == {volume["source"] for volume in services["volumes"]["volumes"]}
    writers = {
        (volume["source"], service["user"])
        for name, service in services.items()
        for volume in service.get("volumes", [])
        if name != "volumes" and volume["type"] == "volume" and not volume.get("read_only")
    }
    assert writers == {*given.items()}
    for name, service in services.items():
        if name != "volumes" and any(volume["type"] == "volume" for volume in service.get("volumes", [])):
            assert "volumes" in service["depends_on"], name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_collector_accepts_its_files_with_what_compose_gives_it(services: dict[str, Any], overlay: str) -> None:
    command = collector.command("validate", [overlay])
    env = {"PATH": os.environ["PATH"], **services["collector"]["environment"]}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_jaeger_accepts_its_file_with_what_compose_gives_it(services: dict[str, Any]) -> None:
    command = [programs.find("jaeger"), "validate", f"--config={ROOT / 'collector' / 'jaeger.yaml'}"]
    env = {"PATH": os.environ["PATH"], **services["jaeger"]["environment"]}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_variables_of_the_collector_and_jaeger_are_read_by_their_files(services: dict[str, Any]) -> None:
    files = {"collector": [*(ROOT / "collector").glob("*.yaml"), *(ROOT / "collector" / "overlays").glob("*.yaml")]}
    files["jaeger"] = [ROOT / "collector" / "jaeger.yaml"]
    for name, texts in files.items():
        read = {found for file in texts for found in re.findall(r"\$\{env:([A-Z_]+)", file.read_text())}
        assert set(services[name]["environment"]) <= read


def test_every_scrape_target_is_a_service_and_every_address_of_one_leads_to_one(services: dict[str, Any]) -> None:
    settings = yaml.safe_load((ROOT / "collector" / "prometheus.yaml").read_text())
    listed = [
        target for job in settings["scrape_configs"] for entry in job["static_configs"] for target in entry["targets"]
    ]
    listed += [
        target
        for entry in settings["alerting"]["alertmanagers"]
        for c in entry["static_configs"]
        for target in c["targets"]
    ]
    ports = {"prometheus": 9090, "alertmanager": 9093, "collector": 8888, "jaeger": 8887}
    ports |= {"postgres-exporter": 9187, "valkey-exporter": 9121}
    assert {tuple(target.split(":")) for target in listed} == {(name, str(port)) for name, port in ports.items()}
    assert set(ports) <= set(services)
    for name in ("prometheus", "alertmanager", "postgres-exporter", "valkey-exporter"):
        assert f"--web.listen-address=0.0.0.0:{ports[name]}" in services[name]["command"]
    for name, variable in (("collector", "OTEL_CC_COLLECTOR_METRICS_PORT"), ("jaeger", "OTEL_CC_JAEGER_METRICS_PORT")):
        text = "".join((ROOT / "collector" / file).read_text() for file in ("base.yaml", "jaeger.yaml"))
        assert f"${{env:{variable}:-{ports[name]}}}" in text
    for service in services.values():
        for value in (service.get("environment") or {}).values():
            for host in re.findall(r"(?:http|redis)://([\w-]+)[:/]", str(value)):
                assert host in services


def test_data_sources_lead_to_services_and_links_to_data_sources(services: dict[str, Any]) -> None:
    sources = {source["uid"]: source for source in yaml.safe_load(DATASOURCES.read_text())["datasources"]}
    assert set(sources) == {"prometheus", "jaeger", "postgres"}
    for source in sources.values():
        host, _, port = source["url"].removeprefix("http://").partition(":")
        assert host in services
        assert port.isdigit()
        for link in source.get("correlations", []):
            assert link["targetUID"] in sources
    links = sources["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert {link["name"] for link in links} == {"trace_id"}
    assert sources["postgres"]["user"] == ROLE
    assert variables(DATASOURCES) <= set(services["grafana"]["environment"])


def test_grafana_expects_samples_as_often_as_they_come() -> None:
    """$__rate_interval is four times this."""
    source = yaml.safe_load(DATASOURCES.read_text())["datasources"][0]
    scraped = yaml.safe_load((ROOT / "collector" / "prometheus.yaml").read_text())["global"]["scrape_interval"]
    sent = f"{int(distro.DEFAULTS['OTEL_METRIC_EXPORT_INTERVAL']) // 1000}s"
    assert (source["uid"], source["jsonData"]["timeInterval"]) == ("prometheus", scraped)
    assert scraped == sent


def test_grafana_takes_passwords_as_they_are(services: dict[str, Any]) -> None:
    """It searches what came out of ${...}, of $__file{...} in a data source, and of its environment for variables."""
    environment = services["grafana"]["environment"]
    secrets = {secret["source"] for secret in services["grafana"]["secrets"]}
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == "$__file{/run/secrets/grafana_admin_password}"
    sources = {source["uid"]: source for source in yaml.safe_load(DATASOURCES.read_text())["datasources"]}
    (name,) = re.findall(r"^\$(GF_\w+)$", sources["postgres"]["secureJsonData"]["password"])
    assert environment[f"{name}__FILE"] == "/run/secrets/exporter_password"
    assert secrets == {"grafana_admin_password", "exporter_password"}


def test_the_script_makes_a_role_that_only_monitors(tmp_path: Path) -> None:
    """Run as the image runs it, by a real psql on a real PostgreSQL."""
    with Processes() as processes:
        server = postgres.start(processes, config={"shared_preload_libraries": "pg_stat_statements"})
        secret = tmp_path / "password"
        secret.write_text('it\'s a \\ "secret" $HOME `id`')
        binaries = Path(server.process.argv[0]).parent
        env = {
            "PATH": f"{binaries}:/usr/bin:/bin",
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGPASSWORD": server.password,
            "POSTGRES_USER": server.user,
            "POSTGRES_DB": server.database,
            "EXPORTER_PASSWORD_FILE": str(secret),
        }
        script = ROOT / "collector" / "postgres-exporter" / "role.sh"
        done = subprocess.run(["sh", str(script)], env=env, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert "secret" not in server.log()
        env |= {"PGUSER": ROLE, "PGPASSWORD": secret.read_text(), "PGDATABASE": server.database}

        def ask(sql: str) -> str:
            command = [str(binaries / "psql"), "-XAtc", sql]
            return subprocess.run(
                command, env=env, capture_output=True, text=True, check=False, timeout=60
            ).stdout.strip()

        assert ask("SELECT count(*) > 0 FROM pg_stat_statements") == "t"
        assert ask("SELECT pg_has_role('pg_monitor', 'member'), current_setting('is_superuser')") == "t|off"
        assert ask("CREATE TABLE t (a int)") == ""
        assert ask("SHOW statement_timeout") == "10s"
