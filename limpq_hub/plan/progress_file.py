"""Where a measurement of hours keeps what it has so far: beside the file that it is to write, and nowhere else."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limpq_hub.plan.output_file import is_replaced

_LONGEST_NAME_BYTES = 255  # of the usual file systems


@contextmanager
def progress_file_of(output: Path) -> Iterator[Path]:
    """Yield the file to keep figures in while `output` is measured; the same command goes on from it.

    Beside a pipe or a device there is no place for it: it lies in a temporary folder, which is removed at the end.

    Raises:
        OSError: what stands at `output` cannot be looked at.
    """
    if is_replaced(output):
        name = f".{output.name}.measured"
        if len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
            name = f".{hashlib.sha256(os.fsencode(output.name)).hexdigest()}.measured"
        yield output.with_name(name)
        return
    with tempfile.TemporaryDirectory(prefix="limpq-hub-") as folder:
        yield Path(folder, "measured")
