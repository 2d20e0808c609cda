"""Entries of the Hub that visitors name: each is fetched once, by a process that is ended where it takes too long."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from _hub_fetch import COMPLETE, PREFIX, folder_name
from _offline import environment_of_fetch

from limpq_hub.errors import (
    ArtifactVersionError,
    HubError,
    HubGatedError,
    HubNotFoundError,
    HubOfflineError,
    HubUnauthorizedError,
    HubUnavailableError,
    UnknownModelError,
    quoted,
)

FETCH_LIMIT_S = 60
# Folders of fetched entries, 150 MB each at most.
MOST_FETCHED = 4
# Begins the name of a folder that one call fetches into.
_UNFINISHED = ".unfinished-"
_PUBLIC_ALONE = "only public repositories can be fetched here; run the demo on your machine for others"
# One call at a time decides which entries stay.
_TIDYING = threading.Lock()
_NAME = re.compile(r"(?:hf-hub:)?([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}(?:@[\w./-]{1,100})?)", re.ASCII)
_PINNED = re.compile(r"hf-hub:[\w.-]+/[\w.-]+@[0-9a-f]{40}", re.ASCII)


def fetch_entry(text: str) -> str:
    """Fetch an entry of the Hub, and return its name with the commit that was fetched.

    Args:
        text: owner/name as a visitor writes it, with or without hf-hub: in front and @revision behind.

    Raises:
        UnknownModelError: that is no such name.
        HubError: the Hub does not give it, it is no entry, or it is too large for the demo.
        OSError: a file of this machine cannot be read or written; it names the file.
    """
    match = _NAME.fullmatch(text.strip())
    if match is None:
        raise UnknownModelError(f"{quoted(text)} is not the name of a Hub repository: write hf-hub:owner/name")
    name = PREFIX + match[1]
    # Of this call alone: another one that ends meanwhile does not take it for a rest to be removed.
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=_folder(), ignore_cleanup_errors=True) as unfinished:
        script = str(Path(__file__).with_name("_hub_fetch.py"))
        command = [sys.executable, script, name, unfinished, str(_folder())]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=FETCH_LIMIT_S, env=environment_of_fetch()
            )
        except subprocess.TimeoutExpired:
            raise HubUnavailableError(f"{name} took more than {FETCH_LIMIT_S} s to fetch; try again later") from None
        if done.returncode:
            raise HubUnavailableError(f"{name} could not be fetched; try again later")
        answer = json.loads(done.stdout)
        if answer.get("errno"):
            raise OSError(answer["errno"], answer["error"])
        if "error" in answer:
            raise HubError(f"not fetched: {_for_visitors(answer)}")
        with _TIDYING:
            _keep(Path(unfinished), folder_name(answer["name"]))
    return answer["name"]


def _for_visitors(answer: Mapping[str, str]) -> str:
    """Return the error of a fetch with advice for a visitor, where its own is for who runs the server."""
    error, kind = answer["error"], answer["kind"]
    # The last one: what the Hub said is quoted before it, and can hold others.
    what = error.rpartition("; ")[0] or error
    if kind == HubOfflineError.__name__:
        return "this server fetches nothing from the Hub; run the demo on your machine, or take another model"
    if answer["client"] == "RepositoryNotFoundError":
        return f"{what}; check the name: {_PUBLIC_ALONE}"
    if kind in (HubGatedError.__name__, HubUnauthorizedError.__name__):
        return f"{what}; {_PUBLIC_ALONE}"
    if answer["client"] == "HfHubHTTPError" and kind == HubNotFoundError.__name__:
        return f"{what}; check the name"
    if kind == ArtifactVersionError.__name__:
        return f"{what}; run the demo on your machine, with the newest limpq-hub"
    return f"{what}; try again later" if kind == HubUnavailableError.__name__ else error


def fetched_folder(name: str) -> str | None:
    """Return the folder of an entry that was fetched; None of a name that is not of the Hub.

    Raises:
        UnknownModelError: it is of the Hub, and its folder is not there, or no more: nothing is fetched by the server.
    """
    if not name.startswith(PREFIX):
        return None
    folder = _folder() / folder_name(name)
    if not _PINNED.fullmatch(name) or not (folder / COMPLETE).exists():
        raise UnknownModelError(f"there is no model {quoted(name)} here; fetch it again, or take another one")
    return str(folder)


def short_name(name: str) -> str:
    """Return the name of a fetched entry without its commit."""
    return name.partition("@")[0]


@lru_cache(maxsize=1)
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """Return the folder of this process for fetched entries; it is removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="limpq-demo-hub-")


def _folder() -> Path:
    return Path(_temporary().name)


def _keep(unfinished: Path, name: str) -> None:
    """Keep what a call has fetched beside the last few entries; one that is there already counts as the newest.

    Args:
        name: of the folder, in that of the call and then in that of all.

    Raises:
        HubUnavailableError: it was there when the call began, and has gone since.
    """
    folder = _folder() / name
    if not (folder / COMPLETE).exists():
        if not (unfinished / name / COMPLETE).exists():
            raise HubUnavailableError("others were fetched meanwhile, and it has gone; fetch it again")
        (unfinished / name).rename(folder)
    (folder / COMPLETE).touch()
    complete = sorted(_folder().glob(f"[!.]*/{COMPLETE}"), key=lambda file: file.stat().st_mtime)
    for file in complete[:-MOST_FETCHED]:
        shutil.rmtree(file.parent, ignore_errors=True)
