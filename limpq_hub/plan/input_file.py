"""Files that are read: regular ones alone, at most so much of each, and nothing that is waited for."""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

from limpq_hub.errors import InputFileError, quoted

# Room for the indicators of 50,000 layers; what is parsed takes up to 25 times as much memory.
TEXT_BYTES = 32 * 2**20


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Return a file, opened for reading in binary.

    Raises:
        InputFileError: it is a pipe, a device or a socket, which may have no end, or never begin.
        OSError: it is missing, a folder, or cannot be read.
    """
    _check_regular(path, os.stat(path).st_mode)  # before it is opened: to open a device can change what it does
    # Something else may stand there since; O_NONBLOCK, so that a pipe without a writer is not waited for.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_regular(path, os.fstat(handle).st_mode)
        return os.fdopen(handle, "rb")
    except OSError:
        os.close(handle)
        raise


def read_regular(path: str | os.PathLike[str], *, at_most: int = TEXT_BYTES) -> bytes:
    """Return the content of a file; raises like `open_regular`, and `InputFileError` for more than `at_most` bytes."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > at_most:
            raise InputFileError(
                f"{quoted(str(path))} has {size:,} bytes, and such a file has at most {at_most:,}; is it the right one?"
            )
        content = file.read(size + 1)
    if len(content) != size:
        raise InputFileError(
            f"{quoted(str(path))} does not hold the {size:,} bytes that its folder says; try again when it is no "
            "longer written to"
        )
    return content


def _check_regular(path: str | os.PathLike[str], mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise InputFileError(
            f"{quoted(str(path))} is {kind_of(mode)}, not a file that can be read; give a regular file"
        )


def system_error_text(error: OSError) -> str:
    """Return why the system refused a file, and which file; a name that is too long to be one is cut."""
    if error.filename is None:
        return error.strerror or str(error)
    name = quoted(error.filename) if error.errno == errno.ENAMETOOLONG else repr(error.filename)
    return f"{error.strerror or error}: {name}"


def kind_of(mode: int) -> str:
    """Return what stands at a path, by its `st_mode`, with an article."""
    kinds = {
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a disk",
        stat.S_IFSOCK: "a socket",
        stat.S_IFDIR: "a folder",
        stat.S_IFREG: "a file",
    }
    return kinds.get(stat.S_IFMT(mode), "no file")
