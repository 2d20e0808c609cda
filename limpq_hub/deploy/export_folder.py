"""The folder of an exported network: written whole or not at all, and verified when it is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limpq_hub.errors import ArtifactFormatError, ArtifactIntegrityError, OutputError, quoted
from limpq_hub.plan.input_file import read_regular
from limpq_hub.plan.shell_command import shell_command
from limpq_hub.zoo.folder import EXPORT_SEAL, SealedFolder
from limpq_hub.zoo.folder_copy import check_replaceable, replaced_folder
from limpq_hub.zoo.seal import unsealed

MODEL, CONFIG, PREPROCESSOR, VERIFICATION = "model.onnx", "config.json", "preprocessor_config.json", EXPORT_SEAL
_FILES = {MODEL, CONFIG, PREPROCESSOR, VERIFICATION}
_ADVICE = "export it again"


@contextmanager
def new_export_folder(target: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of the export at `target` when all went well.

    Raises:
        OutputError: `target` is there and holds something else than an export.
    """
    with replaced_folder(target, check=_check_only_export) as folder:
        yield folder


def check_export_target(target: Path) -> None:
    """Raise `OutputError` if an export could not take the place of what is at `target`."""
    check_replaceable(target, check=_check_only_export)


def _check_only_export(target: Path) -> None:
    foreign = sorted(path.name for path in target.iterdir() if path.name not in _FILES or path.is_dir())
    if foreign or not (target / VERIFICATION).exists():
        what = quoted(foreign[0]) if foreign else f"no {VERIFICATION}"
        raise OutputError(f"{target} holds {what}: it is no export, and would be lost; choose another folder")


def open_export(path: Path) -> SealedFolder:
    """Return an exported folder, every file of which is verified against `verify.json`.

    Raises:
        ArtifactError: it is no export, or a file of it was changed.
    """
    file = path / VERIFICATION
    try:
        data = read_regular(file)
    except OSError as error:
        if os.path.isfile(path / "indicators.json"):
            model = shell_command(f"local-dir:{path}")
            raise ArtifactFormatError(
                f"{path} is no exported network: it is an entry; give it as --model {model}"
            ) from None
        raise ArtifactFormatError(
            f"{path} is no exported network: {VERIFICATION} cannot be read ({error.strerror or error}); give a folder "
            "that limpq export wrote"
        ) from None
    content: Mapping[str, Any] = unsealed(data, str(file), "export", _ADVICE)
    folder = SealedFolder(str(path), lambda name, _: path / name, content, advice=_ADVICE)
    if not {MODEL, CONFIG} <= set(folder.files) or not set(folder.files) <= _FILES:
        raise ArtifactIntegrityError(f"{path}: {VERIFICATION} lists other files than an export has; {_ADVICE}")
    for name in folder.files:
        folder.read(name)
    return folder
