"""The token of the Hub: what is none, and what cannot be sent as one."""

from __future__ import annotations

import re

from huggingface_hub import get_token

from limpq_hub.errors import HubUnauthorizedError

_CAN_BE_SENT = re.compile(r"[!-~]+", re.ASCII)


def usable_token(token: str | None) -> str | None:
    """Return the token without space around it, None for the one that HF_TOKEN or `hf auth login` set.

    An empty one is none, as HF_TOKEN="" is.

    Raises:
        HubUnauthorizedError: the given one, or else the one that is set, has a character that no header can hold.
    """
    stripped = token.strip() if token is not None else ""
    to_send = stripped or get_token() or ""
    if to_send and not _CAN_BE_SENT.fullmatch(to_send):
        raise HubUnauthorizedError(
            f"the token {'given by token=' if stripped else 'that HF_TOKEN or `hf auth login` set'} cannot be sent: "
            "it has a space, or a character that is not ASCII; copy it again, it is hf_ and letters and digits"
        )
    return stripped or None
