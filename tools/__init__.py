"""Tools for the people who work on otel-cc; nothing here is part of the package."""
