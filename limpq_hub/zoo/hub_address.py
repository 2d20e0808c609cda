"""What is wrong with HF_ENDPOINT: where it is no URL, neither the client of the Hub nor timm can be imported."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

from limpq_hub.errors import HubUnavailableError, quoted

_VARIABLE = "HF_ENDPOINT"


def address_fault() -> HubUnavailableError | None:
    """Return the error for an address of the Hub that cannot be read, None for one that can."""
    address = os.environ.get(_VARIABLE, "")
    try:
        parts = urlsplit(address)
        _ = parts.hostname, parts.port  # read when asked for
    except ValueError as error:
        # Behind " as " comes a part of the address, of which a password may be.
        reason = without_credentials(str(error)).partition(" as ")[0]
        return HubUnavailableError(
            f"{_VARIABLE}={quoted(without_credentials(address))} is no address of a Hub: {quoted(reason)}; check "
            f"{_VARIABLE}, or unset it"
        )
    return None


def without_credentials(text: str) -> str:
    """Return a text with *** in the place of the user and password of HF_ENDPOINT, as an address may have them."""
    before, _, _ = os.environ.get(_VARIABLE, "").rpartition("@")
    credentials = before.rpartition("://")[2]
    return text.replace(f"{credentials}@", "***@") if credentials else text


def check_address() -> None:
    """Raise `HubUnavailableError` where the address of the Hub cannot be read."""
    fault = address_fault()
    if fault is not None:
        raise fault


def end_without_address(program: str) -> None:
    """Exit with a line on stderr where the address of the Hub cannot be read: before what reads it is imported.

    Args:
        program: what the line begins with.
    """
    fault = address_fault()
    if fault is not None:
        print(f"{program}: {fault}", file=sys.stderr)
        sys.exit(fault.exit_code)
