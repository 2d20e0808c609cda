"""Fields for uploads that hand over the path of a file: on the server, nothing is opened and nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.blocks import Block
from gradio.data_classes import ImageData


class _UploadsAlone(Block):
    """A component that refuses addresses, which gradio would fetch from this server."""

    async def async_move_resource_to_block_cache(self, url_or_file_path: str | Path | None) -> str | None:
        """Return where a file lies after gradio has taken it in.

        Raises:
            gr.Error: it is an address.
        """
        if url_or_file_path is not None and str(url_or_file_path).lower().startswith(("http:", "https:", "data:")):
            raise _not_a_file()
        return await super().async_move_resource_to_block_cache(url_or_file_path)


class PictureField(_UploadsAlone, gr.Image):
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
            gr.Error: it is no file.
        """
        if payload is None:
            return None
        if payload.path is None:
            raise _not_a_file()
        return payload.path


class PolicyField(_UploadsAlone, gr.File):
    """`gr.File` on the page."""

    def get_block_name(self) -> str:
        """Return the name that the page knows it by."""
        return "file"


def _not_a_file() -> gr.Error:
    return gr.Error("Upload the file itself, not an address.", title="Not possible", print_exception=False)
