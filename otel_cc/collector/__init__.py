"""Care for a running OpenTelemetry Collector: what its own programs leave to the operator."""
