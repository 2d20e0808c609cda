"""A sealed folder: `config.json` lists the sha256 and size of every other file, and of its own content."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from limpq_hub.errors import (
    ArtifactFormatError,
    ArtifactIntegrityError,
    HubCacheError,
    HubError,
    UnsafeFileError,
    quoted,
)
from limpq_hub.plan.input_file import TEXT_BYTES, open_regular
from limpq_hub.plan.jsonfile import check_shape, parse_json
from limpq_hub.plan.output_file import write_bytes
from limpq_hub.zoo.seal import format_of, sealed, unsealed

CONFIG = "config.json"
# The seal of an exported network, beside a `config.json` that is timm's.
EXPORT_SEAL = "verify.json"
ADVICE = "fetch the artifact again"
# Room for thousands of files; and the most that any one of them has.
CONFIG_BYTES = 2**22
MOST_BYTES = 2**36
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
# The seal of what a command is still making; and what a training writes first of all.
_UNFINISHED, _OPTIONS, _FLOAT_WEIGHTS = ".config.json", "options.json", "model.safetensors"
_CUT_OFF_ADVICE = "the training that writes it has not ended: run its command again with --resume"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,3}", re.ASCII)
# Returns the local path of a file; the number is its size in bytes, None for the `config.json` that lists the sizes.
Fetch = Callable[[str, int | None], Path]
Content = TypeVar("Content")
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")


@dataclass(frozen=True)
class SealedFolder:
    """Files of one artifact, each verified whenever it is read.

    Attributes:
        name: what to call the folder in an error.
        fetch: returns the local path of a file of the folder.
        config: content of `config.json`.
        refetch: fetches a file anew that turned out to be damaged, or None where there is nowhere to fetch it from.
        advice: what to do where a file cannot be used.
    """

    name: str
    fetch: Fetch
    config: Mapping[str, Any]
    refetch: Fetch | None = None
    advice: str = ADVICE

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files but `config.json`."""
        return tuple(self.config["files"])

    def listed_bytes(self, file: str) -> int:
        """Return the size of a file in bytes as `config.json` lists it, 0 of one that it does not list."""
        return self.config["files"].get(file, {"bytes": 0})["bytes"]

    def read(self, file: str) -> bytes:
        """Return the content of a file.

        Raises:
            ArtifactIntegrityError: the file is missing, or not the one that `config.json` describes.
            UnsafeFileError: the file is a pickle.
        """
        listed = self.config["files"].get(file)
        if listed is None:
            raise ArtifactIntegrityError(f"{self.name}: {CONFIG} does not list {quoted(file)}; {self.advice}")

        def verified(data: bytes) -> bytes:
            """Return the data if its sha256 is the listed one; else raise an error."""
            if hashlib.sha256(data).hexdigest() != listed["sha256"]:
                raise _damaged(self, file, len(data))
            return data

        data = _read_and_verify(self, file, listed["bytes"], verified)
        if data.startswith(_PICKLES) and not _looks_like_safetensors(data):
            raise UnsafeFileError(
                f"{self.name}/{file} is a pickle, which can execute code: it is not read; {self.advice}"
            )
        return data

    def read_json(self, file: str) -> Any:
        """Return the parsed content of a JSON file; raises like `read`."""
        return parse_json(self.read(file), f"{self.name}/{file}")

    def inner(self, prefix: str, kind: str) -> SealedFolder:
        """Return the sealed folder at `prefix` inside this one, its `config.json` and all files listed by this one too.

        Raises:
            ArtifactError: its `config.json` cannot be used, or lists a file that this one does not list just so.
        """
        name = f"{self.name}/{prefix}"
        config = _verified_config(self.read(f"{prefix}/{CONFIG}"), f"{name}/{CONFIG}", kind, self.advice)
        for file, listed in config["files"].items():
            ours = self.config["files"].get(f"{prefix}/{file}", {})
            if any(ours.get(key) != listed[key] for key in ("sha256", "bytes")):
                raise ArtifactIntegrityError(
                    f"{self.name}: {CONFIG} does not list {quoted(f'{prefix}/{file}')} as {name}/{CONFIG} does; "
                    f"{self.advice}"
                )
        refetch = None if self.refetch is None else _below(prefix, self.refetch)
        return SealedFolder(name, _below(prefix, self.fetch), config, refetch, self.advice)


def open_folder(
    name: str, fetch: Fetch, kind: str, *, refetch: Fetch | None = None, advice: str = ADVICE
) -> SealedFolder:
    """Return the sealed folder whose files `fetch` finds, after checking its `config.json`.

    Args:
        kind: "entry" or "checkpoint".
        refetch: fetches a damaged file anew, once.
        advice: what an error says to do.

    Raises:
        ArtifactFormatError: the folder is of another kind or format, or not sealed.
        ArtifactIntegrityError: `config.json` is missing, no JSON, or was changed.
        UnsafeFileError: `config.json` names a file outside its folder.
    """
    unread = SealedFolder(name, fetch, {}, refetch, advice)
    config = _read_and_verify(
        unread, CONFIG, None, lambda data: _verified_config(data, f"{name}/{CONFIG}", kind, advice)
    )
    return replace(unread, config=config)


def open_local_folder(
    path: str | Path, kind: str, name: str | None = None, *, unfinished: bool = False
) -> SealedFolder:
    """Return the sealed folder at a local path; raises like `open_folder`.

    Args:
        name: what to call it in an error; its path if None.
        unfinished: whether to open what was sealed as unfinished, for the command that is making it.
    """
    path = Path(path)
    if os.path.isfile(path):
        raise ArtifactFormatError(
            f"{quoted(str(path))} is a file, where a folder of kind {kind!r} belongs; give its folder, "
            f"{quoted(str(path.parent))}"
        )
    if not os.path.isdir(path):
        raise ArtifactIntegrityError(
            f"{quoted(str(path))}: there is no such folder; give the output folder of a training"
        )

    def fetch(file: str, size_bytes: int | None) -> Path:
        return path / (_UNFINISHED if unfinished and file == CONFIG else file)

    return open_folder(name or str(path), fetch, kind, advice=_CUT_OFF_ADVICE if is_unfinished(path) else ADVICE)


def is_unfinished(path: Path) -> bool:
    """Return whether a training writes its result here and has not ended, or was cut off."""
    # What pretrain leaves is never sealed: its weights tell it apart.
    begun = os.path.exists(path / _OPTIONS) and not os.path.exists(path / _FLOAT_WEIGHTS)
    return not os.path.exists(path / CONFIG) and (begun or os.path.exists(path / _UNFINISHED))


def unseal_folder(path: Path) -> None:
    """Take the `config.json` away: whatever is in the folder is no artifact until it is sealed again."""
    (path / CONFIG).unlink(missing_ok=True)


def seal_folder(
    path: Path, kind: str, config: Mapping[str, Any], patterns: Iterable[str], *, unfinished: bool = False
) -> None:
    """Write `config.json` last, with the sha256 and size of every file that the folder holds then.

    Args:
        patterns: shell patterns of the files that belong to the artifact; others are left out.
        unfinished: whether more is to come: then the seal has another name, and nobody takes the folder for whole.

    Raises:
        ArtifactFormatError: a file would not be read, for its name or its size; nothing is written.
    """
    paths = sorted(file for pattern in patterns for file in path.glob(pattern))
    names = [file.relative_to(path).as_posix() for file in paths]
    for name in names:
        if not _is_plain(name):
            place, _, file = name.rpartition("/")
            raise ArtifactFormatError(
                f"{path} cannot be sealed with {quoted(place or file)} in it: rename that with letters, digits, "
                "underscores, single dots and dashes, a letter or digit first, or take it away"
            )
    contents = {name: file.read_bytes() for name, file in zip(names, paths, strict=True)}
    for name, data in contents.items():
        if len(data) > _most_bytes(name):
            raise ArtifactFormatError(
                f"{path / name} has {len(data):,} bytes, and of such a file at most {_most_bytes(name):,} are read: "
                "shorten it, or take it away"
            )
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in contents.items()}
    content = sealed({"format": format_of(config), "kind": kind, **config, "files": files})
    if unfinished:
        unseal_folder(path)
        write_bytes(path / _UNFINISHED, content)
    else:
        write_bytes(path / CONFIG, content)
        (path / _UNFINISHED).unlink(missing_ok=True)


def _looks_like_safetensors(data: bytes) -> bool:
    """Return whether the data starts with the length of a JSON header that fits; some lengths read like a pickle."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8


def _is_plain(name: str) -> bool:
    """Return whether a name is that of a file inside its folder, and no hidden one."""
    return bool(_FILE_NAME.fullmatch(name)) and ".." not in name


def _most_bytes(name: str) -> int:
    """Return how many bytes a file can have."""
    return TEXT_BYTES if name.endswith(".json") else MOST_BYTES


def _below(prefix: str, fetch: Fetch) -> Fetch:
    return lambda file, size_bytes: fetch(f"{prefix}/{file}", size_bytes)


def _verified_config(data: bytes, label: str, kind: str, advice: str) -> dict[str, Any]:
    """Return the content of a `config.json`, its seal and the names that it lists verified."""
    config = unsealed(data, label, kind, advice)
    check_shape(config, {"files": dict}, label)
    for file, listed in config["files"].items():
        if not _is_plain(file):
            raise UnsafeFileError(f"{label}: {quoted(file)} is not a plain file name inside the folder; {advice}")
        check_shape(listed, {"sha256": str, "bytes": int}, f"{label}: {file}")
        most_bytes = _most_bytes(file)
        if not 0 <= listed["bytes"] <= most_bytes or not _SHA256.fullmatch(listed["sha256"]):
            raise ArtifactFormatError(
                f"{label}: {quoted(file)} of {quoted(listed['bytes'])} bytes with sha256 {quoted(listed['sha256'])} "
                f"cannot be; such a file has at most {most_bytes:,} bytes; {advice}"
            )
    return config


def _read_and_verify(
    folder: SealedFolder, file: str, size_bytes: int | None, verified: Callable[[bytes], Content]
) -> Content:
    """Return what `verified` makes of a file, fetched anew once if it raises `ArtifactIntegrityError` at first."""
    try:
        return verified(_read(folder.fetch(file, size_bytes), file, size_bytes, folder))
    except ArtifactIntegrityError as damaged:
        if folder.refetch is None:
            raise
        try:
            data = _read(folder.refetch(file, size_bytes), file, size_bytes, folder)
        except HubCacheError:
            raise
        except HubError:  # offline, for instance; the damage to the file is the error that matters
            raise damaged from None
        return verified(data)


def _read(path: Path, file: str, size_bytes: int | None, folder: SealedFolder) -> bytes:
    """Return the content of a file that has as many bytes as `config.json` lists; no more is read than that."""
    try:
        with open_regular(path) as opened:
            size = os.fstat(opened.fileno()).st_size
            if size_bytes is not None and size != size_bytes:
                raise _damaged(folder, file, size)
            if size > CONFIG_BYTES and size_bytes is None:
                raise ArtifactIntegrityError(
                    f"{folder.name}/{file} has {size:,} bytes, and no entry needs more than {CONFIG_BYTES:,}; "
                    f"{folder.advice}"
                )
            return opened.read(size)
    except FileNotFoundError:
        raise ArtifactIntegrityError(f"{folder.name}/{file} is missing; {folder.advice}") from None
    except OSError as error:
        raise ArtifactIntegrityError(
            f"{folder.name}/{file} cannot be read ({error.strerror or error}); {folder.advice}"
        ) from None


def _damaged(folder: SealedFolder, file: str, size: int) -> ArtifactIntegrityError:
    listed = folder.config["files"][file]
    return ArtifactIntegrityError(
        f"{folder.name}/{file} is damaged: its {size} bytes are not the {listed['bytes']} with sha256 "
        f"{listed['sha256'][:12]}... that {CONFIG} lists; {folder.advice}"
    )
