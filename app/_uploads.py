"""Files of visitors: handlers get none but those that gradio itself put into its upload folder, unopened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.state_holder import SessionState
from gradio.utils import get_upload_folder


class UploadsOnly(gr.Blocks):
    """A page whose handlers refuse every file that no visitor has uploaded, whichever field it is sent for.

    gradio looks only at files that a client marks as such, and fetches those that are addresses for any field.
    """

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list[Any], state: SessionState | None, explicit_call: bool = False
    ) -> list[Any]:
        """Return what a handler gets of what a client sent.

        Raises:
            gr.Error: it names a file that was not uploaded; alike whether there is such a file or not.
        """
        if not all(map(is_upload, _paths_in(inputs))):
            raise _not_a_file()
        return await super().preprocess_data(block_fn, inputs, state, explicit_call)


def is_upload(path: object) -> bool:
    """Return whether a path is one that gradio gives to an upload, sha256/name in its folder; that file may be gone."""
    root = os.path.abspath(get_upload_folder())
    # By its text first: of a path elsewhere, not even whether it exists is looked up.
    if not isinstance(path, str) or not re.fullmatch(re.escape(root) + r"/[0-9a-f]{64}/[^/\0]+", os.path.abspath(path)):
        return False
    inside = os.path.relpath(path, root)
    return os.path.realpath(path) == os.path.join(os.path.realpath(root), inside)


def uploaded(path: str | None) -> str:
    """Return the path of an upload.

    Raises:
        gr.Error: it is none.
    """
    if path is None or not is_upload(path):
        raise _not_a_file()
    return path


def _paths_in(content: Any) -> Iterator[Any]:
    """Yield all that JSON has under a key "path", at any depth."""
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if value.get("path") is not None:
                yield value["path"]
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            left.extend(value)


def _not_a_file() -> gr.Error:
    return gr.Error("Upload the file itself, not an address.", title="Not possible", print_exception=False)
