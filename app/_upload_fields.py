"""Files of visitors: handlers get none but those that gradio itself put into its upload folder, unopened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block, BlockFunction
from gradio.data_classes import FileData, ImageData
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


class _NoFolders(Block):
    """A component whose files are told to the page relative to the working folder: no folder of the server is named."""

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Return where a file lies after gradio has taken it in."""
        path = await super().async_move_resource_to_block_cache(url_or_file_path)
        return None if path is None else os.path.relpath(path)

    def move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Return the same, for the examples while the page is built."""
        path = super().move_resource_to_block_cache(url_or_file_path)
        return None if path is None else os.path.relpath(path)


class PictureField(_NoFolders, gr.Image):
    """`gr.Image` on the page.

    On the server, `gr.Image` opens an upload, and decodes what comes as a data URL, before any check of ours. A class,
    because gradio builds a component anew for each visitor: a method that is replaced on the instance gets lost.
    gradio writes a `.pyi` file beside this one when it is imported.
    """

    def get_block_name(self) -> str:
        """Return the name that the page knows it by."""
        return "image"

    def preprocess(self, payload: ImageData | None) -> str | None:
        """Return where an upload lies, or None.

        Raises:
            gr.Error: it is no upload.
        """
        return None if payload is None else _uploaded(payload.path)


class PolicyField(_NoFolders, gr.File):
    """`gr.File` on the page, which leaves an empty file behind for each that it hands over."""

    def get_block_name(self) -> str:
        """Return the name that the page knows it by."""
        return "file"

    def preprocess(self, payload: Any) -> str | None:
        """Return where an upload lies, or None.

        Raises:
            gr.Error: it is no upload.
        """
        return None if payload is None else _uploaded(payload.path if isinstance(payload, FileData) else None)


def is_upload(path: object) -> bool:
    """Return whether a path is one that gradio gives to an upload, sha256/name in its folder; that file may be gone."""
    root = os.path.abspath(get_upload_folder())
    # By its text first: of a path elsewhere, not even whether it exists is looked up.
    if not isinstance(path, str) or not re.fullmatch(re.escape(root) + r"/[0-9a-f]{64}/[^/\0]+", os.path.abspath(path)):
        return False
    inside = os.path.relpath(path, root)
    return os.path.realpath(path) == os.path.join(os.path.realpath(root), inside)


def _uploaded(path: str | None) -> str:
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
