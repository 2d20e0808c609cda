"""What a card states that no file of an entry tells: the licence, and what the weights came from."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.repocard import metadata_load

from limpq_hub.errors import HubNotFoundError, HubOfflineError, HubRefusedError, HubUnavailableError, quoted
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.hub.answers import ask_hub
from limpq_hub.zoo.hub.names import checked_commit
from limpq_hub.zoo.hub.repository import fetch_file, hub_client

CARD = "README.md"
_LICENSE = ("license", "license_name", "license_link")
_BASE_MODEL = ("base_model", "base_model_relation")
# Beside its own errors PyYAML lets through what Python raises over a value with a tag, and where lists are nested deep.
_YAML_ERRORS = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def stated_in(folder: SealedFolder) -> dict[str, Any]:
    """Return what `stated_on_card` does of the card beside an entry, in its folder or in its repository.

    Raises:
        HubError: the Hub does not give the card.
    """
    try:
        return _stated(folder.fetch(CARD, None))
    except HubNotFoundError:
        return {}


def copy_card(folder: SealedFolder, target: Path) -> None:
    """Copy the card beside an entry, if there is one, to where `stated_in` finds it beside a copy of the entry.

    Where the Hub cannot be asked for it, a warning says so: what is sealed may all be in the cache.

    Raises:
        HubError: the Hub refuses it.
        OSError: it cannot be read or written.
    """
    try:
        card = folder.fetch(CARD, None)
    except HubNotFoundError:
        return
    except (HubOfflineError, HubUnavailableError) as error:
        warnings.warn(f"the card of {folder.name}, which may state a licence, was not copied: {error}", stacklevel=2)
        return
    if card.is_file():
        write_bytes(target / CARD, card.read_bytes())


def stated_on_card(repo: str, commit: str, token: str | bool | None = None) -> dict[str, Any]:
    """Return those fields of the front matter that only the owner of a repository knows; empty without a card.

    Raises:
        HubError: the Hub does not give the card.
    """
    try:
        return _stated(fetch_file(repo, CARD, commit, None, token))
    except HubNotFoundError:
        return {}


def commit_before(repo: str, branch: str | None, token: str | bool | None = None) -> str | None:
    """Return the commit that a push would follow, None where there is no such repository yet.

    Raises:
        HubError: the Hub does not say.
    """
    api = hub_client(token)

    def ask() -> str | None:
        """Return the commit that the Hub has there."""
        try:
            return api.model_info(repo, revision=branch).sha
        except RevisionNotFoundError:  # a new branch begins as the main one
            return api.model_info(repo).sha

    try:
        return checked_commit(repo, branch, ask_hub(repo, branch, ask))
    except HubNotFoundError:
        return None


def stated_together(
    repo: str, there: Mapping[str, Any], own: Mapping[str, Any], *, license: str | None
) -> dict[str, Any]:
    """Return what a card is to state that takes the place of another: what stood there, and else what the entry's does.

    Args:
        there: on the card that is replaced.
        own: on the card beside the entry.
        license: what was typed, which settles what the two say.

    Raises:
        HubRefusedError: they state two licences, and none was typed.
    """
    of_there, of_own = (_of(stated, _LICENSE) for stated in (there, own))
    if of_there and of_own and of_there != of_own and not license:
        raise HubRefusedError(
            f"{repo} states the licence {_name(of_there)}, the card of the entry {_name(of_own)}: name the one to "
            "state with --license"
        )
    return {key: value for fields in (_LICENSE, _BASE_MODEL) for key, value in _first(there, own, fields).items()}


def _first(there: Mapping[str, Any], own: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return _of(there, fields) or _of(own, fields)


def _of(stated: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in stated.items() if key in fields}


def _name(license: Mapping[str, Any]) -> str:
    return " ".join(quoted(value) for value in license.values())


def _stated(card: Path) -> dict[str, Any]:
    if not card.is_file():
        return {}
    try:
        front_matter = metadata_load(card)
    # No front matter that the Hub could read either.
    except _YAML_ERRORS:
        return {}
    fields = (*_LICENSE, *_BASE_MODEL)
    return {field: value for field, value in (front_matter or {}).items() if field in fields and _is_text(value)}


def _is_text(value: object) -> bool:
    """Return whether a value is text, or, as of several base models, a list of texts."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(item, str) for item in value))
