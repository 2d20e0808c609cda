"""The fields that take files of visitors: gradio's own, but handing over the path of an upload, unopened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gradio as gr
from _uploads import uploaded
from gradio.blocks import Block
from gradio.data_classes import FileData, ImageData


class _NoFolders(Block):
    """A component whose files are told to the page relative to the working folder: no folder of the server is named."""

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Return where a file lies after gradio has taken it in."""
        path = await super().async_move_resource_to_block_cache(url_or_file_path)
        return None if path is None else os.path.relpath(path)

    def move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Return the same, for the photographs while the page is built; these stay as long as the page."""
        path = super().move_resource_to_block_cache(url_or_file_path)
        if path is None:
            return None
        # gradio keeps what is returned, and deletes files by the path that it has itself.
        self.keep_in_cache.add(path)
        return os.path.relpath(path)


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
        return None if payload is None else uploaded(payload.path)


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
        return None if payload is None else uploaded(payload.path if isinstance(payload, FileData) else None)
