"""What an exception is called in telemetry."""

from __future__ import annotations

import json

from otel_cc.error_type import type_name


def test_an_exception_is_named_with_its_module_unless_it_is_pythons_own() -> None:
    assert type_name(ValueError) == "ValueError"
    assert type_name(json.JSONDecodeError) == "json.decoder.JSONDecodeError"
