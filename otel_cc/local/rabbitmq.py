"""A real RabbitMQ, from the system's package: the other broker of the tests; temporary, on loopback, no management."""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from otel_cc.local.process import Process, ProcessError, Processes, free_port, listens

# Debian's wrapper in /usr/sbin insists on its own user and its own folders; the script behind it does not.
_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

_CONFIG = """\
listeners.tcp.default = 127.0.0.1:{port}
loopback_users.guest = true
default_user = shop
default_pass = {password}
log.console = true
log.console.level = info
log.file = false
disk_free_limit.absolute = 10MB
"""


@dataclass(frozen=True)
class RabbitMQ:
    """A running broker.

    :param url: what Celery takes, ``amqp://user:password@127.0.0.1:port//``
    """

    process: Process
    url: str
    port: int


def start(processes: Processes, *, name: str = "rabbitmq") -> RabbitMQ:
    """Start a broker that ends with ``processes``; takes about 6 s.

    :raises ProcessError: the program is not installed
    """
    epmd = shutil.which("epmd")
    if not _SCRIPT.exists() or epmd is None:
        raise ProcessError("RabbitMQ is not installed: apt-get install rabbitmq-server.")
    home = processes.folder / f"{name}-data"
    home.mkdir(mode=0o700)
    port, epmd_port, password = free_port(), free_port(), secrets.token_urlsafe(16)
    (home / "rabbitmq.conf").write_text(_CONFIG.format(port=port, password=password))
    (home / "enabled_plugins").write_text("[].\n")
    (home / "env.conf").touch()
    environment = {
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
        "LC_ALL": "C.UTF-8",
        "HOME": str(home),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"{name}-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_BASE": str(home),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        # Distribution only on loopback, and no busy waiting of the schedulers: tests share the machine.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
        "+sbwt none +sbwtdcpu none +sbwtdio none +S 2:2",
    }
    # A name server of its own: the one that Erlang would start outlives the broker.
    processes.start(
        f"{name}-epmd",
        [epmd, "-address", "127.0.0.1", "-port", str(epmd_port)],
        env=environment,
        ready=listens(epmd_port),
    )
    process = processes.start(
        name, [str(_SCRIPT)], env=environment, cwd=home, ready=listens(port), timeout=60, stop_timeout=15
    )
    return RabbitMQ(process, f"amqp://shop:{password}@127.0.0.1:{port}//", port)
