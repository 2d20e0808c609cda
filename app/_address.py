"""Where the page listens: a port that none can be is told in a line, before gradio, which reads it when imported."""

from __future__ import annotations

import argparse
import os
import re
import sys

from limpq_hub.errors import quoted

_HOST_VARIABLE, _PORT_VARIABLE = "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"
_FIRST_PORT = "7860"


def port_of(text: str) -> int:
    """Return a port as it was typed.

    Raises:
        argparse.ArgumentTypeError: there is none of this number.
    """
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{quoted(text)} is no port: use a number from 1 to 65535, for example 8000")
    return int(text)


def end_without_port(program: str) -> None:
    """Exit with a line on stderr where the environment names a port that cannot be.

    Args:
        program: what the line begins with.
    """
    text = os.environ.get(_PORT_VARIABLE)
    try:
        _ = text is None or port_of(text)
    except argparse.ArgumentTypeError as error:
        print(f"{program}: {_PORT_VARIABLE}: {error}", file=sys.stderr)
        sys.exit(2)


def taken(host: str | None, port: int | None) -> str:
    """Return that nothing can listen where the page was to, in words.

    Args:
        host, port: as they were given; the environment's, or gradio's own, if None.
    """
    host = host or os.environ.get(_HOST_VARIABLE) or "127.0.0.1"
    ports = f"any port from {os.environ.get(_PORT_VARIABLE, _FIRST_PORT)} on" if port is None else f"port {port}"
    return (
        f"the page cannot listen on {ports} of {quoted(host)}: it is in use, may not be used, or this machine has no "
        "such host; give another --port or --host"
    )
