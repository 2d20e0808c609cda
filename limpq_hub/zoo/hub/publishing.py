"""From an entry folder to a Hub repository: verified, in one commit or not at all, read back and compared."""

from __future__ import annotations

import filecmp
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from limpq_hub.errors import ArtifactIntegrityError, HubRefusedError, quoted
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.plots import plot_policy
from limpq_hub.zoo.card import figure_of, render_card
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.folder_copy import copy_verified
from limpq_hub.zoo.hub import repository as hub
from limpq_hub.zoo.hub.card_there import CARD, commit_before, stated_in, stated_on_card, stated_together
from limpq_hub.zoo.hub.names import check_repository, check_revision
from limpq_hub.zoo.hub.replacing import files_of_entry_there
from limpq_hub.zoo.hub.upload import create_tag, upload_folder

_VERSION = re.compile(r"v([0-9]{1,9})")


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        repo: owner/name.
        commit: that holds the entry now.
        tag: its name, or None for a proposal, or where nothing changed.
        unchanged: whether the repository held all of this already, under a tag.
    """

    repo: str
    commit: str
    tag: str | None
    unchanged: bool = False


def push_entry(
    entry: Entry,
    repo: str,
    *,
    private: bool = False,
    branch: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
    stated: Mapping[str, Any] | None = None,
    expected: str | None = None,
    token: str | bool | None = None,
) -> Pushed:
    """Make a Hub repository hold this entry and its card, tag the commit, and compare what the Hub gives back.

    Of what is there, an entry of the same network is replaced; files that belong to no entry stay, and so do the
    licence and the base model that the card there states.

    Args:
        private: create the repository as a private one.
        branch: where the commit goes; the main branch if None.
        create_pr: propose the commit instead; no tag then.
        tag: name of the commit; the next of v1, v2, ... if None.
        license, base_model: for the card, in the place of what is stated of them so far.
        stated: of licence and base model where the card there does not say; what the card beside the entry does if
            None.
        expected: commit that the entry was built from, where it was built from what the branch holds.

    Raises:
        ArtifactError: a file of the entry is damaged or malformed; nothing was sent. Or the Hub gave back something
            else.
        PolicyError: a policy is malformed, or does not fit the network; nothing was sent.
        HubMovedError: the branch is not at `expected`, or moved since; nothing was changed.
        HubRefusedError: the tag is there already, or is the name of a branch; the repository holds something else than
            an entry of this network, is public where `private` was asked for, or states another licence than the card
            beside the entry, where none was given; or the Hub refused the push.
        HubError: the Hub did not take it otherwise.
    """
    check_names(repo, tag=tag, branch=branch)
    tags = hub.tags_of(repo, token)
    if tag in tags:
        raise HubRefusedError(f"{repo} has a tag {quoted(tag)} already; choose another one")
    stated = stated_in(entry.folder) if stated is None else stated
    before = commit_before(repo, branch, token)
    if before is not None:
        stated = stated_together(repo, stated_on_card(repo, before, token), stated, license=license)
    with tempfile.TemporaryDirectory(prefix="limpq-push-") as temporary:
        folder = Path(temporary) / "entry"
        write_repository(entry, folder, repo, license=license, base_model=base_model, stated=stated)
        message = f"{entry.indicators.model}: indicators, joint weights and {len(entry.published)} fine-tuned policies"
        commit = upload_folder(
            folder,
            repo,
            message=message,
            private=private,
            branch=branch,
            create_pr=create_pr,
            expected=expected or before,  # whose card was read
            replaced=partial(files_of_entry_there, entry.folder.config, repo, token=token),
            token=token,
        )
        _compare(folder, repo, commit, Path(temporary) / "cache", token)
    unchanged = commit in tags.values()
    if create_pr or (tag is None and unchanged):
        return Pushed(repo, commit, None, unchanged)
    tag = tag or _next_version(tags)
    create_tag(repo, tag, commit, token)
    return Pushed(repo, commit, tag, unchanged)


def check_names(repo: str, *, tag: str | None, branch: str | None) -> None:
    """Raise `HubError` where a repository, a tag or a branch cannot have its name; nothing is asked of the Hub."""
    check_repository(repo)
    check_revision(repo, tag)
    check_revision(repo, branch)
    if tag is not None and tag in ("main", branch):
        raise HubRefusedError(f"tag {quoted(tag)} is the name of a branch; choose another one")


def write_repository(
    entry: Entry,
    folder: Path,
    repo: str,
    *,
    license: str | None,
    base_model: str | None,
    stated: Mapping[str, Any] | None = None,
) -> None:
    """Write what the repository is to hold: the verified files of the entry, its card and its figures.

    Args:
        license, base_model: for the card, in the place of what is stated of them so far.
        stated: of both; what the card beside the entry states if None.

    Raises:
        ArtifactError: a file of the entry is damaged or malformed, or a policy is not that of its checkpoint.
        PolicyError: a policy is malformed, or does not fit the network.
        HubError: the entry is on the Hub, which does not give a file of it.
    """
    copy_verified(entry.folder, folder)
    stated = stated_in(entry.folder) if stated is None else stated
    card = render_card(entry, repo, license=license, base_model=base_model, stated=stated)
    (folder / CARD).write_text(card, encoding="utf-8")
    for published in entry.published:
        policy = Policy.from_json(entry.checkpoint(published.name).read_json("policy.json"))
        if policy.digest() != published.policy_sha256:
            raise ArtifactIntegrityError(
                f"{entry.name}: policy {published.name} is not the one its checkpoint describes; {entry.folder.advice}"
            )
        figure = folder / figure_of(published.name)
        figure.parent.mkdir(exist_ok=True)
        plot_policy(Plan.of_policy(entry.indicators, policy), figure)


def _compare(folder: Path, repo: str, commit: str, cache: Path, token: str | bool | None) -> None:
    """Raise `ArtifactIntegrityError` unless the Hub gives back every file as it was sent, card and figures too."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        file, size_bytes = path.relative_to(folder).as_posix(), path.stat().st_size
        fetched = hub.fetch_file(repo, file, commit, str(cache), token, size_bytes=size_bytes)
        if not filecmp.cmp(path, fetched, shallow=False):
            raise ArtifactIntegrityError(
                f"{repo}@{commit[:12]}: the Hub gave back another {file} than was sent; push again"
            )


def _next_version(tags: Mapping[str, str]) -> str:
    versions = [int(match[1]) for match in map(_VERSION.fullmatch, tags) if match]
    return f"v{max(versions, default=0) + 1}"
