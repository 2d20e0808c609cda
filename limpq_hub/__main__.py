"""The `limpq` command and `python -m limpq_hub`: it loads nothing before Ctrl-C is told in one line."""

import os
import signal
import sys


def main() -> int:
    """Run the command that was typed and return its exit code."""
    # What a shell starts in the background ignores Ctrl-C, and goes on doing so.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, _stop_loading)
    from limpq_hub.cli import main as command

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = command()
    if interruptible:
        # Nothing is left to undo: what Python tidies up at its end is not worth a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


def _stop_loading(*_: object) -> None:
    # A library that is being imported may swallow an exception, and nothing has been begun yet.
    os.write(2, b"limpq: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
