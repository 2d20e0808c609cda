"""The token of the Hub: what is none, and what cannot be sent as one."""

from __future__ import annotations

import re

from huggingface_hub import get_token

from limpq_hub.errors import HubUnauthorizedError

_CAN_BE_SENT = re.compile(r"[!-~]+", re.ASCII)


def usable_token(token: str | bool | None) -> str | bool | None:
    """Return the token without space around it, None for the one that HF_TOKEN or `hf auth login` set, False for none.

    As the client has it, True is the one that is set, and False shows none. An empty one is as HF_TOKEN="" is.

    Raises:
        HubUnauthorizedError: it is no text; or the given one, or else the one that is set, has a character that no
            header can hold.
    """
    if token is False:
        return False
    if token is not None and token is not True and not isinstance(token, str):
        raise HubUnauthorizedError(
            f"token= takes the text of a token, or True, False or None; found a {type(token).__name__}"
        )
    stripped = token.strip() if isinstance(token, str) else ""
    to_send = stripped or get_token() or ""
    if to_send and not _CAN_BE_SENT.fullmatch(to_send):
        raise HubUnauthorizedError(
            f"the token {'given by token=' if stripped else 'that HF_TOKEN or `hf auth login` set'} cannot be sent: "
            "it has a space, or a character that is not ASCII; copy it again, it is hf_ and letters and digits"
        )
    return stripped or None
