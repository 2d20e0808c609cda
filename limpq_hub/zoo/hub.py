"""Files of a Hub repository, down and up, all from and in one commit: the only module that talks to the Hub."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    EvalResult,
    HfApi,
    ModelCard,
    ModelCardData,
    constants,
    get_session,
    hf_hub_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from limpq_hub import __version__
from limpq_hub.errors import (
    HubError,
    HubGatedError,
    HubNotFoundError,
    HubOfflineError,
    HubRefusedError,
    HubUnauthorizedError,
    HubUnavailableError,
    UnsafeFileError,
    shown,
)
from limpq_hub.plan.jsonfile import write_bytes

LIBRARY = "limpq-hub"
_CALLER = {"library_name": LIBRARY, "library_version": __version__}
_REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_./-]*", re.ASCII)
_PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
# How long a request waits where no byte comes.
_SECONDS, _SECONDS_WHERE_ASKED_AGAIN = 30, 10
Result = TypeVar("Result")


def resolve_commit(repo: str, revision: str | None, cache_dir: str | None, token: str | None) -> str:
    """Return the commit that `revision` means now, or meant last where the Hub cannot be reached.

    Args:
        revision: branch, tag or commit; the main branch if None.

    Raises:
        HubError: the Hub has no such repository, or cannot be reached and the cache does not know it either.
    """
    check_revision(repo, revision)
    if revision is not None and _COMMIT.fullmatch(revision):
        return revision
    api = HfApi(token=token, **_CALLER)
    reference = _asked(repo, revision, lambda: _reference(repo, revision, cache_dir))
    try:
        commit = _asked(repo, revision, lambda: api.model_info(repo, revision=revision, timeout=_SECONDS).sha)
    except (HubUnavailableError, HubOfflineError) as error:
        if not reference.is_file():
            raise
        commit = reference.read_text(errors="replace").strip()
        if not _COMMIT.fullmatch(commit):
            raise
        if isinstance(error, HubUnavailableError):
            warnings.warn(f"{error}; the commit that it named last is used: {commit[:12]}", stacklevel=2)
        return commit
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise HubUnavailableError(f"{repo}@{revision or 'main'}: what the Hub sent is damaged: no commit; try again")
    with suppress(OSError):  # a cache that cannot be written serves what it has
        write_bytes(reference, commit.encode())
    return commit


def _reference(repo: str, revision: str | None, cache_dir: str | None) -> Path:
    """Return the file in which the cache of huggingface_hub remembers what a branch or tag meant."""
    cache = Path(cache_dir or constants.HF_HUB_CACHE)
    return cache / repo_folder_name(repo_id=repo, repo_type="model") / "refs" / (revision or "main")


def fetch_file(repo: str, file: str, commit: str, cache_dir: str | None, token: str | None, *, anew: bool) -> Path:
    """Return the local path of a file of a commit, from the cache or the Hub; raises like `resolve_commit`.

    Args:
        anew: from the Hub even if the cache has it.
    """
    where = {"revision": commit, "cache_dir": cache_dir, "token": token, "force_download": anew}
    try:
        return Path(_asked(repo, commit, lambda: hf_hub_download(repo, file, **where, **_CALLER)))
    except HubNotFoundError:
        if file == "config.json":
            raise _no_entry(repo, commit, token) from None
        raise


def list_repositories(owner: str, token: str | None = None) -> list[str]:
    """Return the repositories of `owner` that say they are made for this library, sorted."""
    found = _asked(owner, None, lambda: list(HfApi(token=token, **_CALLER).list_models(author=owner, filter=LIBRARY)))
    return sorted(model.id for model in found)


def upload_folder(
    folder: Path,
    repo: str,
    *,
    message: str,
    private: bool = False,
    branch: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> str:
    """Make the repository hold exactly the files of a folder, in one commit, and return that commit.

    Args:
        branch: where the commit goes, created if it is not there; the main branch if None.
        create_pr: propose the commit instead.

    Raises:
        HubError: the Hub did not take it.
    """
    check_revision(repo, branch)
    api = HfApi(token=token, **_CALLER)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def upload() -> CommitInfo:
        api.create_repo(repo, private=private, exist_ok=True)
        if branch is not None:
            api.create_branch(repo, branch=branch, exist_ok=True)
        there = api.list_repo_files(repo, revision=branch)
        added = [CommitOperationAdd(file, folder / file) for file in files]
        deleted = [CommitOperationDelete(file) for file in there if file not in files and file != ".gitattributes"]
        return api.create_commit(repo, [*added, *deleted], commit_message=message, revision=branch, create_pr=create_pr)

    return _asked(repo, branch, upload).oid


def tags_of(repo: str, token: str | None = None) -> dict[str, str]:
    """Return the commit of each tag, empty where there is no such repository yet."""
    try:
        refs = _asked(repo, None, lambda: HfApi(token=token, **_CALLER).list_repo_refs(repo))
    except HubNotFoundError:
        return {}
    return {tag.name: tag.target_commit for tag in refs.tags}


def create_tag(repo: str, tag: str, commit: str, token: str | None = None) -> None:
    """Give a commit a name that stays."""
    try:
        _asked(repo, commit, lambda: HfApi(token=token, **_CALLER).create_tag(repo, tag=tag, revision=commit))
    except HubRefusedError:
        raise HubRefusedError(
            f"{repo}: the commit {commit} is there, but the Hub refused the tag {shown(tag)}; push again with another"
        ) from None


def card_text(front_matter: Mapping[str, Any], results: Sequence[Mapping[str, Any]], body: str) -> str:
    """Return a model card.

    Args:
        front_matter: fields of `ModelCardData`.
        results: fields of `EvalResult`, one per measured figure.
        body: the Markdown below.
    """
    data = ModelCardData(**front_matter, eval_results=[EvalResult(**result) for result in results])
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}", ignore_metadata_errors=False)
    return str(card)


def check_repository(repo: str) -> None:
    """Raise `HubNotFoundError` unless `repo` is owner/name."""
    if not isinstance(repo, str) or not _REPOSITORY.fullmatch(repo):
        raise HubNotFoundError(f"{shown(repo)} is not the name of a Hub repository: write owner/name")


def check_revision(repo: str, revision: str | None) -> None:
    """Raise `HubNotFoundError` unless `revision` can be the name of a branch, tag or commit."""
    if revision is not None and not _REVISION.fullmatch(revision):
        raise HubNotFoundError(f"{repo}: {shown(revision)} is not a branch, tag or commit")


def _no_entry(repo: str, commit: str, token: str | None) -> Exception:
    """Return the error for a repository without `config.json`."""
    files: Collection[str] = _asked(
        repo, commit, lambda: HfApi(token=token, **_CALLER).list_repo_files(repo, revision=commit)
    )
    pickles = sorted(file for file in files if file.lower().endswith(_PICKLES))
    if pickles:
        return UnsafeFileError(
            f"{repo}@{commit[:12]} holds {shown(pickles[0])}, a pickle, which can execute code, and no entry of "
            "limpq-hub: it is not read"
        )
    return HubNotFoundError(f"{repo}@{commit[:12]} holds no config.json; is it an entry of limpq-hub?")


def _asked(repo: str, revision: str | None, ask: Callable[[], Result]) -> Result:
    where = f"{repo}@{revision or 'main'}"
    _limit_waiting()
    try:
        return ask()
    except HFValidationError:
        raise HubNotFoundError(f"{shown(repo)} is not the name of a Hub repository: write hf-hub:owner/name") from None
    except GatedRepoError:
        raise HubGatedError(
            f"{where} is gated; ask for access on its page on the Hub, then give a token that has it"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise HubNotFoundError(
            f"{where}: the Hub shows no such repository or revision ({type(error).__name__}); check the name, or give "
            "a token that may read it"
        ) from None
    except LocalTokenNotFoundError:
        raise HubUnauthorizedError(f"{where}: no token; run `hf auth login`, or set HF_TOKEN") from None
    except LocalEntryNotFoundError as error:
        # The client says so of whatever kept it from the Hub: the cause tells.
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _refused(where, error.__cause__) from None
        if isinstance(error.__cause__, HTTPError):
            raise _unreachable(where, error.__cause__) from None
        raise HubOfflineError(
            f"{where} is not in the cache and the Hub was not reached; go online once, or unset HF_HUB_OFFLINE"
        ) from None
    except EntryNotFoundError:
        raise HubNotFoundError(f"{where} lacks a file of a limpq-hub entry; is it one?") from None
    except HfHubHTTPError as error:
        raise _refused(where, error) from None
    except OfflineModeIsEnabled:
        raise HubOfflineError(
            f"{where} is not in the cache and HF_HUB_OFFLINE is set; go online once, or unset it"
        ) from None
    except HTTPError as error:
        raise _unreachable(where, error) from None
    except (OSError, ValueError, RuntimeError) as error:  # cut off, of another length than announced, or no JSON
        raise HubUnavailableError(
            f"{where}: what the Hub sent is damaged ({type(error).__name__}: {shown(str(error))}); try again"
        ) from None


def _limit_waiting() -> None:
    """Let no request of the client wait without end: it sends most of them without a timeout, and some again."""
    session = get_session()
    hooks = session.event_hooks
    if _limited not in hooks["request"]:
        session.event_hooks = hooks | {"request": [*hooks["request"], _limited]}


def _limited(request: Any) -> None:
    """Shorten the timeouts of a request of httpx."""
    seconds = _SECONDS_WHERE_ASKED_AGAIN if request.method in ("HEAD", "GET") else _SECONDS
    given = request.extensions.get("timeout", {})
    request.extensions["timeout"] = {
        kind: seconds if value is None else min(value, seconds) for kind, value in given.items()
    }


def _unreachable(where: str, error: Exception) -> HubUnavailableError:
    return HubUnavailableError(f"{where}: the Hub did not answer ({type(error).__name__}); try again later")


def _refused(where: str, error: HfHubHTTPError) -> HubError:
    """Return the error for an answer that says no."""
    status = error.response.status_code if error.response is not None else None
    if status in (401, 403):
        return HubUnauthorizedError(
            f"{where}: the Hub answered {status}; give a token that may do this: run `hf auth login`, or set HF_TOKEN"
        )
    if status in (400, 409, 412, 422):
        return HubRefusedError(
            f"{where}: the Hub answered {status}: {shown(error.server_message or str(error))}; nothing was changed"
        )
    return HubUnavailableError(f"{where}: the Hub did not answer ({status or type(error).__name__}); try again later")
