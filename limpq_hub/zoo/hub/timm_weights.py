"""timm's own weights of a network: fetched into the cache that timm reads; and what is said where none come."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from safetensors import SafetensorError, safe_open
from timm.models import PretrainedCfg

from limpq_hub.errors import (
    ArtifactIntegrityError,
    HubError,
    HubNotFoundError,
    HubOfflineError,
    HubUnavailableError,
    quoted,
)
from limpq_hub.zoo.hub.repository import fetch_file, resolve_commit

# What timm looks for where its configuration names no file; a safetensors file of the repository comes first.
_FILE = "pytorch_model.bin"
_SHOWN = "model.safetensors"
# How the files begin that torch wrote before 1.6; later ones are archives, with a checksum of each tensor.
_NO_ARCHIVE = b"\x80"
# What timm calls the safetensors file in the place of such a file; of others the suffix alone is another one.
_SAFE = {_FILE: _SHOWN, "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}


def fetch_timm_weights(config: PretrainedCfg, *, at_most: int) -> None:
    """Fetch what timm loads for `pretrained=True`, unless the cache has it.

    Weights that timm has from elsewhere than the Hub, or in a format of their own, are left to timm.

    Args:
        at_most: how many bytes the file may have.

    Raises:
        HubError: the Hub does not give them; names the file, and what needs no Hub.
        ArtifactIntegrityError: the file in the cache is damaged.
    """
    if not config.hf_hub_id or config.custom_load:
        return
    repo, _, revision = config.hf_hub_id.partition("@")
    names = _names(config.hf_hub_filename or _FILE)
    try:
        path = _fetched(repo, names, revision or None, at_most)
    except HubError as error:
        raise without_weights(error, f"hf-hub:{config.hf_hub_id}", names[0]) from None
    _check_whole(path)


def _names(file: str) -> list[str]:
    """Return the files that timm looks for in the place of one, in its order: a safetensors file comes first."""
    if not file.endswith(".bin"):
        return [file]
    return [_SAFE.get(file, f"{file.removesuffix('.bin')}.safetensors"), file]


def _fetched(repo: str, names: Sequence[str], revision: str | None, at_most: int) -> Path:
    """Return the local path of the first file that there is, the one that timm reads.

    Where there is none, what was said of the first is raised. A later one may be in the cache that a Hub which does not
    answer was not asked for.
    """
    commit = resolve_commit(repo, revision, None, None)
    misses: list[HubError] = []
    for name in names:
        try:
            return fetch_file(repo, name, commit, None, None, size_bytes=at_most)
        except (HubNotFoundError, HubOfflineError, HubUnavailableError) as error:
            misses.append(error)
    raise misses[0]


def _check_whole(path: Path) -> None:
    """Raise `ArtifactIntegrityError` for a file that timm cannot read, and would tell of in its reader's words."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                return
        with path.open("rb") as file:
            if file.read(1) == _NO_ARCHIVE:
                return
            with ZipFile(file) as archive:
                damaged = archive.testzip()
        if damaged is not None:
            raise BadZipFile(f"the checksum of {damaged} is another")
    except (SafetensorError, BadZipFile, EOFError) as error:
        # Not the link that the cache has to it: with that alone gone, the client links the damaged file again.
        raise ArtifactIntegrityError(
            f"{str(path.resolve())!r} is damaged ({quoted(str(error))}); delete it, and it is fetched again"
        ) from None


def without_weights(error: HubError, repository: str, file: str = _SHOWN, option: str = "--weights") -> HubError:
    """Return an error in its place that says which weights were wanted, why they do not come, and what to do instead.

    Args:
        repository: hf-hub:owner/name, perhaps with @revision.
        file: the one that was wanted.
        option: that they were wanted for.
    """
    match error:
        case HubOfflineError():
            reason = "HF_HUB_OFFLINE is set: unset it, and try again"
        case HubUnavailableError():
            what, _, advice = str(error).partition(": ")[2].partition("; ")
            reason = f"{what[:1].upper()}{what[1:]}: {advice}"
        case _:
            reason = str(error)
    told = type(error)(
        f"{option} needs {file} of {repository}, and the cache does not have it. {reason}. Or take {file} and "
        f"config.json from a machine that has them, and give {option} FILE.safetensors, with config.json beside it"
    )
    told.client_error = error.client_error
    return told
