"""What the tests of the demo share: the network that looks at pictures, and a photograph."""

from pathlib import Path

import gradio
import pytest
from _model_cache import Networks
from _request import Request

MODEL = "resnet18.tiny_imagenet"


@pytest.fixture(scope="session")
def networks() -> Networks:
    return Networks()


@pytest.fixture(scope="session")
def lion() -> Path:
    """A photograph of 256 x 256 pixels that comes with gradio."""
    return Path(gradio.__file__).parent / "media_assets" / "images" / "lion.jpg"


@pytest.fixture
def request_3g() -> Request:
    return Request(MODEL, 3.0)
