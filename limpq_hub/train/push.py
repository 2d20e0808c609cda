"""Publishing on the Hub, as the scripts offer it."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from limpq_hub.errors import (
    HubMovedError,
    HubNotFoundError,
    HubRefusedError,
    HubUnauthorizedError,
    TrainingError,
    shown,
)
from limpq_hub.zoo.assembly import assemble_entry, is_policy_name
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_folder import SUPERNET
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.hub.names import check_repository
from limpq_hub.zoo.hub.publishing import push_entry
from limpq_hub.zoo.hub.repository import token_holder

# Options that change nothing but where a result goes.
PUSH_OPTIONS = {"push_to_hub", "private", "license"}


def add_push_options(parser: argparse.ArgumentParser, *, name: str = "--push-to-hub") -> None:
    """Add where the result is published."""
    group = parser.add_argument_group("Hub")
    group.add_argument(name, metavar="OWNER/NAME", help="repository that the result is published in; none if not given")
    group.add_argument("--private", action="store_true", help="create the repository as a private one")
    group.add_argument("--license", help="identifier of the licence of the weights; the card states none if not given")


def check_push(options: argparse.Namespace, policy_name: str | None = None) -> None:
    """Raise where `--push-to-hub` cannot work as far as can be known: before a training, not after.

    Args:
        policy_name: what the trained policy is to be published as.

    Raises:
        HubError: no such name can be, or the token is missing, not valid, or may not write there.
        TrainingError: `policy_name` cannot name a policy.
    """
    repo = options.push_to_hub
    if not repo:
        return
    check_repository(repo)
    if policy_name is not None and not is_policy_name(policy_name):
        raise TrainingError(
            f"--output {shown(policy_name)} would name the policy on the Hub: use letters, digits, dots and dashes"
        )
    holder, owner = token_holder(repo), repo.split("/")[0]
    roles = {found["name"]: found.get("roleInOrg") for found in (holder.get("orgs") or ())}
    token = (holder.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise HubUnauthorizedError(f"{repo}: the token in use may only read; give one that may write, in HF_TOKEN")
    if owner != holder["name"] and roles.get(owner, "read") == "read":
        raise HubUnauthorizedError(
            f"{repo}: the token in use is that of {holder['name']}, who may not write for {owner}; publish as "
            f"{holder['name']}/{repo.split('/')[1]}, or give another token in HF_TOKEN"
        )


def push(entry: Entry, repo: str, **how: object) -> None:
    """Publish an entry, as `push_entry` takes it, and say where it is; raises like it."""
    pushed = push_entry(entry, repo, **how)
    named = f", tag {pushed.tag}" if pushed.tag else ""
    print(f"published {repo}@{pushed.commit[:12]}{named}; next: limpq search hf-hub:{repo} --bitops w4a4")


def push_with_policy(
    entry: Entry,
    name: str,
    checkpoint: SealedFolder,
    repo: str,
    *,
    private: bool = False,
    license: str | None = None,
) -> None:
    """Publish an entry with one more fine-tuned policy, beside those that the repository holds already.

    Where somebody else changes the repository meanwhile, it is read and published once more.

    Args:
        private, license: as `push_entry` takes them.

    Raises:
        HubRefusedError: the repository holds another network, or was changed again meanwhile.
        HubError: the Hub did not give or take it otherwise.
        ArtifactError: a file is damaged.
    """
    how = {"private": private, "license": license}
    try:
        _push_beside(entry, name, checkpoint, repo, **how)
    except HubMovedError:
        _push_beside(entry, name, checkpoint, repo, **how)


def _push_beside(entry: Entry, name: str, checkpoint: SealedFolder, repo: str, **how: object) -> None:
    """Publish, once, what the main branch holds with one more policy."""
    try:
        there = find_entry(f"hf-hub:{repo}")
        expected = there.revision
    except HubNotFoundError:
        there, expected = entry, None
    if there.folder.config["files"][SUPERNET] != entry.folder.config["files"][SUPERNET]:
        raise HubRefusedError(f"{repo} holds another network than {entry.name}; publish in another repository")
    with tempfile.TemporaryDirectory(prefix="limpq-") as temporary:
        folder = Path(temporary) / "entry"
        assemble_entry(there.folder, {name: checkpoint}, folder)
        # None where `there` is not of the repository, which then holds no entry.
        push(find_entry(f"local-dir:{folder}"), repo, expected=expected, **how)
