"""Publishing on the Hub, as the commands offer it: checked before a training, done after it."""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePath

from limpq_hub.errors import (
    HubMovedError,
    HubNotFoundError,
    HubRefusedError,
    HubUnauthorizedError,
    TrainingError,
    quoted,
)
from limpq_hub.plan.first_budget import first_budget
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.train.launching import command_of
from limpq_hub.train.settings import PushSettings
from limpq_hub.zoo.assembly import assemble_entry, is_policy_name
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_tensors import have_same_supernet
from limpq_hub.zoo.folder import SealedFolder
from limpq_hub.zoo.hub.card_there import stated_in
from limpq_hub.zoo.hub.names import check_repository
from limpq_hub.zoo.hub.publishing import Pushed, push_entry
from limpq_hub.zoo.hub.replacing import check_takes_entry
from limpq_hub.zoo.hub.repository import token_holder


def check_push(push: PushSettings, policy_name: str | None = None) -> None:
    """Raise where `--push-to-hub` cannot work as far as can be known: before a training, not after.

    Args:
        policy_name: what the trained policy is to be published as.

    Raises:
        HubError: no such name can be, or the token is missing, not valid, or may not write there; or the repository
            holds something else than an entry, or is public where `--private` was typed.
        TrainingError: `policy_name` cannot name a policy.
    """
    repo = push.push_to_hub
    if not repo:
        return
    check_repository(repo)
    if policy_name is not None and not is_policy_name(policy_name):
        raise TrainingError(
            f"--output {quoted(policy_name)} would name the policy on the Hub: use letters, digits, dots and dashes"
        )
    holder, owner = token_holder(repo), repo.split("/")[0]
    roles = {organization["name"]: organization.get("roleInOrg") for organization in (holder.get("orgs") or ())}
    token = (holder.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        raise HubUnauthorizedError(f"{repo}: the token in use may only read; give one that may write, in HF_TOKEN")
    if owner != holder["name"] and roles.get(owner, "read") == "read":
        raise HubUnauthorizedError(
            f"{repo}: the token in use is that of {holder['name']}, who may not write for {owner}; publish as "
            f"{holder['name']}/{repo.split('/')[1]}, or give another token in HF_TOKEN"
        )
    check_takes_entry(repo, private=push.private)


def announce(pushed: Pushed, indicators: Indicators) -> None:
    """Say where a published entry is, and what to do with it."""
    tag = f", tag {pushed.tag}" if pushed.tag else ""
    budget = first_budget(indicators)
    search = shell_command("limpq", "search", f"hf-hub:{pushed.repo}", "--bitops", budget)
    done = "nothing changed, that is" if pushed.unchanged else "published"
    print(f"{done} {pushed.repo}@{pushed.commit[:12]}{tag}; next: {search}")


def publishing_command(model: str, *arguments: str | PurePath) -> str:
    """Return the command that makes an entry of a joint training and what `arguments` add to it.

    Args:
        model: the entry as it was given; one that is not a folder yet is fetched into one first.
    """
    joint = Path(model.removeprefix("local-dir:") if model.startswith("local-dir:") else "out/joint")
    publish = command_of("publish", "--joint", joint, *arguments, "--output", Path(f"{joint}-entry"))
    if model.startswith("local-dir:"):
        return publish
    return f"{shell_command('limpq', 'pull', model, '--output', joint)} && {publish}"


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

    What the card there states of licence and base model stays, but for a licence given here. Where somebody else
    changes the repository meanwhile, it is read and published once more.

    Args:
        private, license: as `push_entry` takes them.

    Raises:
        HubRefusedError: the repository holds another network, or was changed again meanwhile.
        HubError: the Hub did not give or take it otherwise.
        ArtifactError: a file is damaged.
    """
    try:
        pushed = _push_beside(entry, name, checkpoint, repo, private, license)
    except HubMovedError:
        pushed = _push_beside(entry, name, checkpoint, repo, private, license)
    announce(pushed, entry.indicators)


def _push_beside(
    entry: Entry, name: str, checkpoint: SealedFolder, repo: str, private: bool, license: str | None
) -> Pushed:
    """Publish, once, what the main branch holds with one more policy."""
    try:
        published = find_entry(f"hf-hub:{repo}")
        # The push is refused where the branch has moved on since it was read.
        expected = published.revision
    except HubNotFoundError:
        published, expected = entry, None
    if not have_same_supernet(published.folder, entry.folder):
        raise HubRefusedError(f"{repo} holds another network than {entry.name}; publish in another repository")
    with tempfile.TemporaryDirectory(prefix="limpq-") as temporary:
        folder = Path(temporary) / "entry"
        assemble_entry(published.folder, {name: checkpoint}, folder)
        assembled = find_entry(f"local-dir:{folder}")
        # Of a repository that is there its own card alone is asked.
        stated = {} if expected else stated_in(entry.folder)
        return push_entry(assembled, repo, private=private, license=license, stated=stated, expected=expected)
