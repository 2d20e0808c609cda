"""The fields of a request, handing over what was sent as it is: what cannot be is refused by `_requests_in.request_of`.

gradio's own check it against the choices and the bounds of one model: of the one that it last gave to a visitor, if it
remembers this visitor, else of the one that the page opens with.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from _uploads import UploadsOnly
from gradio.data_classes import APIInfo

# What is left out is the model's own, not that of the model that the page opens with.
_OF_MODEL = "alpha"


class RequestPage(UploadsOnly):
    """A page that tells clients no default which holds for one model alone."""

    def get_api_info(self, all_endpoints: bool = False, page: str | None = None) -> APIInfo:
        """Return what the endpoints take and give."""
        told = super().get_api_info(all_endpoints, page)
        for endpoint in told["named_endpoints"].values():
            for parameter in endpoint["parameters"]:
                if parameter["parameter_name"] == _OF_MODEL:
                    parameter.update(parameter_has_default=True, parameter_default=None)
        return told


class ChoiceField(gr.Dropdown):
    """`gr.Dropdown` on the page."""

    def get_block_name(self) -> str:
        """Return the name that the page knows it by."""
        return "dropdown"

    def preprocess(self, payload: Any) -> Any:
        """Return what was sent."""
        return payload


class RangeField(gr.Slider):
    """`gr.Slider` on the page."""

    def get_block_name(self) -> str:
        """Return the name that the page knows it by."""
        return "slider"

    def api_info(self) -> dict[str, Any]:
        """Return what clients are told that it takes."""
        return {"type": "number", "description": "numeric value; what a model allows is told where it is left"}

    def preprocess(self, payload: Any) -> Any:
        """Return what was sent."""
        return payload


class NumberField(gr.Number):
    """`gr.Number` on the page, which would round a small number to 0."""

    def get_block_name(self) -> str:
        """Return the name that the page knows it by."""
        return "number"

    def preprocess(self, payload: Any) -> Any:
        """Return what was sent."""
        return payload
