"""What a push may replace in a repository: nothing, or an entry of the same network; and which files go with that."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import ModelInfo

from limpq_hub.errors import ArtifactError, ArtifactVersionError, HubNotFoundError, HubRefusedError, quoted
from limpq_hub.zoo.card import figure_of
from limpq_hub.zoo.folder import CONFIG, SealedFolder, open_folder
from limpq_hub.zoo.hub import repository as hub
from limpq_hub.zoo.hub.answers import ask_hub
from limpq_hub.zoo.hub.names import checked_commit
from limpq_hub.zoo.network_title import title_in

# What a repository may hold before it holds an entry: what the Hub's page for a new one offers to write.
_BEFORE_AN_ENTRY = (".gitattributes", ".gitignore", "README*", "LICENSE*", "LICENCE*")
_ELSEWHERE = "publish in another repository"


def files_of_entry_there(
    config: Mapping[str, Any], repo: str, commit: str, files: Collection[str], token: str | bool | None = None
) -> set[str]:
    """Return which files of a commit belong to the entry that it holds, none where it holds none.

    Args:
        config: that of the entry which is to take its place.
        files: all that the commit holds.

    Raises:
        HubRefusedError: the commit holds something else, or an entry of another network, which would be lost.
        HubError: the Hub does not give its `config.json`.
    """
    there = _entry_there(repo, commit, files, token)
    if there is None:
        return set()
    old, new = title_in(there.config, there.name), title_in(config, "the entry")
    if old != new:
        raise HubRefusedError(f"{repo} holds an entry of {old}, and this one is of {new}; {_ELSEWHERE}")
    # Of figures, those of policies alone: others are not ours.
    return {file for file in files if file in (*there.files, CONFIG) or fnmatchcase(file, figure_of("*"))}


def check_takes_entry(repo: str, *, private: bool, token: str | bool | None = None) -> None:
    """Raise `HubError` where a repository takes no entry, whichever it is: as far as can be known before there is one.

    Args:
        private: whether it is to be a private one.
    """
    try:
        found = ask_hub(repo, None, lambda: hub.hub_client(token).model_info(repo))
    except HubNotFoundError:
        return
    if private:
        check_private(repo, found)
    files = [file.rfilename for file in found.siblings or ()]
    _entry_there(repo, checked_commit(repo, None, found.sha), files, token)


def check_private(repo: str, found: ModelInfo) -> None:
    """Raise `HubRefusedError` unless the Hub says of a repository that it is private."""
    if not found.private:
        raise HubRefusedError(
            f"{repo} is there already, and everyone can read it: nothing was sent; make it private in its settings on "
            f"the Hub, publish without --private, or {_ELSEWHERE}"
        )


def _entry_there(repo: str, commit: str, files: Collection[str], token: str | bool | None) -> SealedFolder | None:
    """Return the entry that a commit holds; None where it holds nothing that could be lost."""
    if CONFIG not in files:
        foreign = sorted(file for file in files if not any(fnmatchcase(file, known) for known in _BEFORE_AN_ENTRY))
        if foreign:
            raise HubRefusedError(f"{repo} holds {quoted(foreign[0])}, and no entry of limpq-hub; {_ELSEWHERE}")
        return None
    where = f"{repo}@{commit[:12]}"
    with tempfile.TemporaryDirectory(prefix="limpq-hub-") as cache:

        def fetch(file: str, size_bytes: int | None) -> Path:
            """Return where a file of the commit was fetched to."""
            return hub.fetch_file(repo, file, commit, cache, token, size_bytes=size_bytes)

        try:
            return open_folder(where, fetch, "entry", advice=_ELSEWHERE)
        except ArtifactVersionError as error:
            raise HubRefusedError(str(error)) from None
        except ArtifactError:
            raise HubRefusedError(
                f"{repo} holds a {CONFIG}, and no entry of limpq-hub, or one that was changed; {_ELSEWHERE}"
            ) from None
