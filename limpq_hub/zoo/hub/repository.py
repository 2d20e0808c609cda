"""What a Hub repository holds: its files, all from one commit, its tags, and who may change it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData, constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.file_download import repo_folder_name

from limpq_hub.errors import (
    HubNotFoundError,
    HubOfflineError,
    HubUnavailableError,
    UnsafeFileError,
    quoted,
)
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.version import __version__
from limpq_hub.zoo.hub.answers import ask_hub
from limpq_hub.zoo.hub.names import (
    check_revision,
    checked_commit,
    first_pickle,
    is_commit,
    is_repository,
    not_a_repository,
)
from limpq_hub.zoo.hub.tokens import usable_token

LIBRARY = "limpq-hub"
_MOST = 1000


def hub_client(token: str | bool | None) -> HfApi:
    """Return the client of the Hub; each of its requests says that this library asks.

    Raises:
        HubUnauthorizedError: the token, given or set, cannot be sent.
    """
    return HfApi(token=usable_token(token), library_name=LIBRARY, library_version=__version__)


def resolve_commit(repo: str, revision: str | None, cache_dir: str | None, token: str | bool | None) -> str:
    """Return the commit that `revision` means now, or meant last where the Hub cannot be reached.

    Args:
        revision: branch, tag or commit; the main branch if None.

    Raises:
        HubError: the Hub has no such repository, or cannot be reached and the cache does not know it either.
    """
    if not is_repository(repo):
        raise not_a_repository(repo)
    check_revision(repo, revision)
    if revision is not None and is_commit(revision):
        return revision
    api = hub_client(token)
    reference = _reference(repo, revision, cache_dir)
    try:
        commit = ask_hub(repo, revision, lambda: api.model_info(repo, revision=revision).sha, cache_dir=cache_dir)
    except (HubUnavailableError, HubOfflineError) as error:
        if not reference.is_file():
            raise
        commit = reference.read_text(errors="replace").strip()
        if not is_commit(commit):
            raise
        if isinstance(error, HubUnavailableError):
            warnings.warn(f"{error}; the commit that it named last is used: {commit[:12]}", stacklevel=2)
        return commit
    commit = checked_commit(repo, revision, commit)
    with suppress(OSError):  # where the cache is read-only, the commit is asked for again next time
        write_bytes(reference, commit.encode())
    return commit


def _reference(repo: str, revision: str | None, cache_dir: str | None) -> Path:
    """Return the file in which the cache of huggingface_hub remembers what a branch or tag meant."""
    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    try:
        folder = repo_folder_name(repo_id=repo, repo_type="model")
    except HFValidationError:
        raise not_a_repository(repo) from None
    return cache / folder / "refs" / (revision or "main")


def fetch_file(
    repo: str,
    file: str,
    commit: str,
    cache_dir: str | None,
    token: str | bool | None,
    *,
    size_bytes: int | None = None,
    anew: bool = False,
) -> Path:
    """Return the local path of a file of a commit, from the cache or the Hub; raises like `resolve_commit`.

    Args:
        size_bytes: the most that is taken from the Hub; that of any answer if None.
        anew: from the Hub even if the cache has it.
    """
    check_revision(repo, commit)  # the client makes a path of it

    cached = None if anew else _cached_file(repo, file, commit, cache_dir)
    if cached is not None:
        return cached

    def download() -> str:
        return hub_client(token).hf_hub_download(repo, file, revision=commit, cache_dir=cache_dir, force_download=anew)

    try:
        return Path(ask_hub(repo, commit, download, file=file, cache_dir=cache_dir, file_bytes=size_bytes))
    except HubNotFoundError:
        if file == "config.json":
            refuse_pickles(repo, commit, token)
            raise HubNotFoundError(f"{repo}@{commit[:12]} holds no config.json; is it an entry of limpq-hub?") from None
        raise


def _cached_file(repo: str, file: str, commit: str, cache_dir: str | None) -> Path | None:
    """Return where the cache has a file of a commit, None where it does not: what a branch means, the Hub is to say.

    No session of the client is needed for it, so that certificates and proxies may be what they are.
    """
    if not is_commit(commit):
        return None
    with suppress(OSError, ValueError):  # told of by the client, when it is asked
        found = try_to_load_from_cache(repo, file, cache_dir=cache_dir, revision=commit)
        return Path(found) if isinstance(found, str) else None
    return None


def refuse_pickles(repo: str, commit: str, token: str | bool | None) -> None:
    """Raise `UnsafeFileError` where a repository without an entry holds a pickle, or `HubError`."""
    files = ask_hub(repo, commit, lambda: hub_client(token).list_repo_files(repo, revision=commit))
    pickle = first_pickle(files)
    if pickle is not None:
        raise UnsafeFileError(
            f"{repo}@{commit[:12]} holds {quoted(pickle)}, a pickle, which can execute code, and no entry of "
            "limpq-hub: it is not read; ask its owner for an entry, or make one with accelerate launch -m "
            "limpq_hub.train.indicators"
        )


def list_repositories(owner: str, token: str | bool | None = None) -> list[str]:
    """Return the repositories of `owner` that say they are made for this library, sorted.

    Raises:
        HubError: the Hub does not say.
    """
    api = hub_client(token)
    try:
        # One by one, for the client makes much of each: of a few megabytes without an end, gigabytes.
        models = ask_hub(owner, None, lambda: list(islice(api.list_models(author=owner, filter=LIBRARY), _MOST + 1)))
    except HubOfflineError:
        raise HubOfflineError(
            f"which models {owner} has is for the Hub to say, and HF_HUB_OFFLINE is set; unset it"
        ) from None
    if len(models) > _MOST:
        raise HubUnavailableError(f"the models of {owner}: more than {_MOST:,}, which cannot be listed; name one")
    names = [model.id for model in models]
    if not all(map(is_repository, names)):
        raise HubUnavailableError(f"the models of {owner}: what the Hub sent is damaged: no names; try again")
    return sorted(names)


def token_holder(repo: str, token: str | bool | None = None) -> dict[str, Any]:
    """Return what the Hub says of whose token this is, with "name" and, if it says, "orgs" and "auth".

    Args:
        repo: what the token is for, as errors name it.

    Raises:
        HubError: the token is missing or not valid, or the Hub does not say.
    """
    holder = ask_hub(repo, None, lambda: hub_client(token).whoami())
    if not isinstance(holder, dict) or not isinstance(holder.get("name"), str):
        raise HubUnavailableError(f"{repo}: what the Hub sent is damaged: no name of whose token it is; try again")
    return holder


def tags_of(repo: str, token: str | bool | None = None) -> dict[str, str]:
    """Return the commit of each tag, empty where there is no such repository yet.

    Raises:
        HubError: the Hub does not say.
    """
    try:
        refs = ask_hub(repo, None, lambda: hub_client(token).list_repo_refs(repo))
    except HubNotFoundError:
        return {}
    return {tag.name: tag.target_commit for tag in refs.tags}


def card_text(front_matter: Mapping[str, Any], results: Sequence[Mapping[str, Any]], body: str) -> str:
    """Return a model card.

    Args:
        front_matter: fields of `ModelCardData`.
        results: fields of `EvalResult`, one per measured figure; they need "model_name" in the front matter.
        body: the Markdown below.
    """
    # None, not an empty list, which the card would show as a model-index without results.
    data = ModelCardData(**front_matter, eval_results=[EvalResult(**result) for result in results] or None)
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}", ignore_metadata_errors=False)
    return str(card)
