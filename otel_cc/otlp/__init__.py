"""How spans and metrics leave: as OTLP over HTTP, written without protobuf's objects."""
