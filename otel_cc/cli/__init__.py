"""The command ``otel-cc``: one thin file for each verb. Nothing else imports this package."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """The entry point; it asks for its own packages first, because the runtime install does without them."""
    try:
        try:
            import rich  # noqa: F401
            import typer  # noqa: F401
        except ModuleNotFoundError as error:
            print(f"otel-cc needs {error.name}, which is not installed: pip install 'otel-cc[tools]'.", file=sys.stderr)
            raise SystemExit(2) from None
        from otel_cc.cli.verbs import app

        app()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        # A second Ctrl-C while the interpreter ends would print a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
