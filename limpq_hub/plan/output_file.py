"""Files that are written: whole or not at all, through links, and into pipes and devices instead of over them."""

from __future__ import annotations

import errno
import os
import re
import secrets
import select
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from limpq_hub.errors import OutputError, quoted
from limpq_hub.plan.input_file import kind_of

# How long a pipe may have no reader, or take nothing.
READER_S = 10.0
# What this process, or the shell that started it, has open: /dev/stdout, and >(command) of bash.
_OPEN_FILE = re.compile(r"/dev/(?P<name>stdout|stderr)|/(?:dev|proc/self)/fd/(?P<number>[0-9]{1,6})")
_NUMBERS = {"stdout": 1, "stderr": 2}
# A pipe that is said to take something takes that many bytes without waiting.
_CHUNK_BYTES = getattr(select, "PIPE_BUF", 512)

# Characters of a name that its temporary file keeps: of up to 4 bytes each, and a name has at most 255.
_NAME_KEPT = 50


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` under a temporary name, flush it to the disk, then rename it to `path`.

    A link stays a link: the file that it leads to is replaced. What has no content of its own to replace, a pipe, a
    device, /dev/stdout or >(command), is written into.

    Raises:
        OutputError: `path` is a disk or a socket; or nobody reads the pipe.
        OSError: `path` is a folder, or cannot be written.
    """
    path = Path(path)
    open_file = _OPEN_FILE.fullmatch(str(path))
    if open_file:
        number = int(open_file["number"]) if open_file["number"] else _NUMBERS[open_file["name"]]
        _write_into(path, lambda: os.dup(number), data)
        return
    mode: int | None = None
    with suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
    if mode is None or stat.S_ISREG(mode):
        _replace(path, data, None if mode is None else stat.S_IMODE(mode))
    elif stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    elif stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        _write_into(path, lambda: _opened_stream(path), data)
    else:
        raise OutputError(f"{quoted(str(path))} is {kind_of(mode)}, which is not written to; name a file")


def is_replaced(path: str | os.PathLike[str]) -> bool:
    """Return whether `write_bytes` makes or replaces a regular file; it writes into a pipe, a device or /dev/stdout.

    Raises:
        OSError: what stands at `path` cannot be looked at.
        ValueError: no file can have this name.
    """
    if _OPEN_FILE.fullmatch(os.fspath(path)):
        return False
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True


def check_names(path: Path) -> None:
    """Raise `OSError` where a folder that is still to be made, or a file in it, cannot have its name."""
    for parent in path.parents:
        if os.path.isdir(parent):
            for name in path.relative_to(parent).parts:
                with suppress(FileNotFoundError):
                    os.stat(parent / name)
            return


def _replace(path: Path, data: bytes, mode: int | None) -> None:
    """Write a regular file; with the rights of the one that it replaces, or those that the umask leaves a new one."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # `tempfile` would make a file for its owner alone, and what the umask is can be read by changing it only.
        temporary = target.parent / f".{target.name[:_NAME_KEPT]}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(temporary, flags, 0o666 if mode is None else 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if mode is not None:
                os.chmod(temporary, mode)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:
            raise
        # The error of the system names the temporary file, which nobody has asked for.
        raise OSError(error.errno, error.strerror, str(path)) from None


def _opened_stream(path: Path) -> int:
    """Return a pipe or a device, opened; a pipe may get its reader a moment later."""
    until = time.monotonic() + READER_S
    while True:
        try:
            return os.open(path, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if time.monotonic() > until:
                raise OutputError(
                    f"{quoted(str(path))}: nobody reads this pipe; start its reader, or name a file"
                ) from None
        time.sleep(0.05)


def _write_into(path: Path, opened: Callable[[], int], data: bytes) -> None:
    """Write all of `data`, in pieces that are waited for."""
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where the process was started with it closed
        stream.flush()  # what was printed before comes before
    try:
        with os.fdopen(opened(), "wb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                if not select.select([], [file], [], READER_S)[1]:
                    raise OutputError(
                        f"{quoted(str(path))}: its reader takes nothing more; start it again, or name a file"
                    )
                rest = rest[file.write(rest[:_CHUNK_BYTES]) or 0 :]
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
