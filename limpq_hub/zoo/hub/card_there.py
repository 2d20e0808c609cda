"""What the card of a repository states that no file of an entry tells: the licence, and what the weights came from."""

from __future__ import annotations

from typing import Any

import yaml
from huggingface_hub.repocard import metadata_load

from limpq_hub.errors import HubNotFoundError
from limpq_hub.zoo.hub.repository import fetch_file

_CARD = "README.md"
_STATED = ("license", "license_name", "license_link", "base_model", "base_model_relation")


def stated_on_card(repo: str, commit: str, token: str | bool | None = None) -> dict[str, Any]:
    """Return those fields of the front matter that only the owner of a repository knows; empty without a card.

    Raises:
        HubError: the Hub does not give the card.
    """
    try:
        front_matter = metadata_load(fetch_file(repo, _CARD, commit, None, token))
    except HubNotFoundError:
        return {}
    # No front matter that the Hub could read either.
    except (ValueError, yaml.YAMLError):
        return {}
    return {field: value for field, value in (front_matter or {}).items() if field in _STATED and _is_text(value)}


def _is_text(value: object) -> bool:
    """Return whether a value is text, or, as of several base models, a list of texts."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))
