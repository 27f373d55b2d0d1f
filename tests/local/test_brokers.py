"""The real Valkey and the real RabbitMQ: a message goes through, and a missing program is one sentence."""

from __future__ import annotations

import kombu
import pytest

from otel_cc.local import rabbitmq as local_rabbitmq
from otel_cc.local.process import ProcessError, Processes
from otel_cc.local.rabbitmq import RabbitMQ
from otel_cc.local.valkey import Valkey


def passes_a_message(url: str) -> bool:
    with kombu.Connection(url) as connection:
        queue = connection.SimpleQueue("test-brokers")
        queue.put({"order": 42})
        message = queue.get(timeout=30)
        message.ack()
        queue.close()
        return bool(message.payload == {"order": 42})


def test_valkey_passes_a_message(valkey: Valkey) -> None:
    assert passes_a_message(valkey.url)


def test_rabbitmq_passes_a_message(rabbitmq: RabbitMQ) -> None:
    assert passes_a_message(rabbitmq.url)


def test_valkey_has_databases_and_listens_on_loopback_only(valkey: Valkey) -> None:
    assert valkey.database(3) == f"redis://127.0.0.1:{valkey.port}/3"
    assert valkey.command("PING") == b"+PONG\r\n"
    assert b"127.0.0.1" in valkey.command("CONFIG", "GET", "bind")


def test_a_missing_rabbitmq_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with Processes() as processes, pytest.raises(ProcessError) as error:
        local_rabbitmq.start(processes)
    assert str(error.value) == "RabbitMQ is not installed: apt-get install rabbitmq-server."
