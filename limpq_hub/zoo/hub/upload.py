"""Files of a folder, up into a Hub repository in one commit, and the name of that commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, constants
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from limpq_hub.errors import HubRefusedError, quoted
from limpq_hub.zoo.hub.answers import ask_hub, changed_meanwhile
from limpq_hub.zoo.hub.names import check_revision, checked_commit
from limpq_hub.zoo.hub.replacing import check_private
from limpq_hub.zoo.hub.repository import hub_client


def _nothing(commit: str, files: Collection[str]) -> Collection[str]:
    return ()


def upload_folder(
    folder: Path,
    repo: str,
    *,
    message: str,
    private: bool = False,
    branch: str | None = None,
    create_pr: bool = False,
    expected: str | None = None,
    replaced: Callable[[str, Collection[str]], Collection[str]] = _nothing,
    token: str | bool | None = None,
) -> str:
    """Make the repository hold the files of a folder, in one commit, and return that commit.

    Args:
        private: create the repository as a private one.
        branch: where the commit goes, created if it is not there; the main branch if None.
        create_pr: propose the commit instead.
        expected: commit that the folder was made from, where it was made from what the branch holds.
        replaced: takes the commit that the branch is at and the files of it, and returns those that are to go where
            the folder lacks them; raises an error where the commit may not be replaced.

    Raises:
        HubMovedError: the branch is not at `expected`, or moved since; nothing was changed.
        HubRefusedError: the repository is there and public, and `private` was asked for; nothing was changed.
        HubError: the Hub did not take it.
    """
    check_revision(repo, branch)
    api = hub_client(token)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def prepare() -> tuple[str, list[str], bool]:
        api.create_repo(repo, private=private, exist_ok=True)
        is_new_branch = False
        try:
            found = api.model_info(repo, revision=branch)
        except RevisionNotFoundError:
            # Such a branch begins as the main one, and not before all has been checked.
            found, is_new_branch = api.model_info(repo), True
        if private:
            check_private(repo, found)
        parent = checked_commit(repo, branch, found.sha)
        if expected is not None and parent != expected:
            raise changed_meanwhile(repo, branch)
        return parent, api.list_repo_files(repo, revision=parent), is_new_branch

    parent, files_before, is_new_branch = ask_hub(repo, branch, prepare)
    gone = sorted(set(replaced(parent, files_before)).intersection(files_before).difference(files))
    if branch is not None and is_new_branch:
        ask_hub(repo, branch, lambda: api.create_branch(repo, branch=branch, revision=parent, exist_ok=True))
    with _without_bars(), ExitStack() as opened:
        # The client sends an open file by HTTP; one that it opens itself may go by Xet, which no limit reaches.
        added = [CommitOperationAdd(file, opened.enter_context((folder / file).open("rb"))) for file in files]

        def send(addition: CommitOperationAdd) -> None:
            api.preupload_lfs_files(repo, [addition], revision=branch, create_pr=create_pr, free_memory=False)

        def commit() -> str:
            # With `parent_commit` the Hub refuses the commit if the branch has moved since its files were listed.
            return api.create_commit(
                repo,
                [*added, *map(CommitOperationDelete, gone)],
                commit_message=message,
                revision=branch,
                create_pr=create_pr,
                parent_commit=parent,
            ).oid

        for addition in added:
            # One by one: several go up in threads of their own, which no limit reaches.
            ask_hub(repo, branch, partial(send, addition), upload_bytes=addition.upload_info.size)
        sent_bytes = sum(addition.upload_info.size for addition in added)
        return checked_commit(repo, branch, ask_hub(repo, branch, commit, upload_bytes=sent_bytes))


@contextmanager
def _without_bars() -> Iterator[None]:
    """Draw no progress bar of the client: of an open file there is none but "Upload 0 LFS files"."""
    # Where the variable HF_HUB_DISABLE_PROGRESS_BARS is set, it decides, and the client warns of any other switch.
    switch = constants.HF_HUB_DISABLE_PROGRESS_BARS is None and not are_progress_bars_disabled()
    if switch:
        disable_progress_bars()
    try:
        yield
    finally:
        if switch:
            enable_progress_bars()


def create_tag(repo: str, tag: str, commit: str, token: str | bool | None = None) -> None:
    """Give a commit a name that stays.

    Raises:
        HubError: the Hub did not take the tag; the commit is there.
    """
    try:
        ask_hub(repo, commit, lambda: hub_client(token).create_tag(repo, tag=tag, revision=commit))
    except HubRefusedError:
        raise HubRefusedError(
            f"{repo}: the commit {commit} is there, but the Hub refused the tag {quoted(tag)}; push again with another"
        ) from None
