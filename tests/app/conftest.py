"""What the tests of the demo share: the page, the network that looks at pictures, and a photograph."""

import asyncio
from pathlib import Path

import gradio
import pytest
from _boundary import hide_folders
from _model_cache import Networks
from _request import Request

import app

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


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The page, its uploads in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "files"))
    hide_folders(tmp_path / "files")

    # Where none runs, gradio makes an event loop for each of its locks, and closes none.
    async def built():
        return app.build_demo()

    return asyncio.run(built())
