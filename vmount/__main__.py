"""The program, also as `python -m vmount`."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command line and return the exit code."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # While modules are loaded there is nothing to undo, and Ctrl-C shall show no traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from vmount.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
