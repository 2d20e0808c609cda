"""Tests of the folder as a Hugging Face Space: its front matter says what is true."""

from pathlib import Path

import gradio
import yaml
from _model_cache import MOST_NETWORKS
from _pictures_in import MOST_BYTES, MOST_PIXELS

import app

APP = Path(__file__).parents[2] / "app"


def test_the_front_matter_names_a_file_that_is_there_and_a_gradio_like_the_one_that_is_tested():
    _, front, text = (APP / "README.md").read_text().split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["sdk"] == "gradio"
    assert (APP / matter["app_file"]).is_file()
    assert matter["sdk_version"].split(".")[0] == gradio.__version__.split(".")[0]
    assert matter["license"] == "mit"
    assert len(matter["short_description"]) <= 60
    assert "models" not in matter, "nothing of ours is on the Hub"
    assert text.strip()


def test_the_bounds_in_the_text_are_those_of_the_code():
    text = (APP / "README.md").read_text()
    assert f"{MOST_PIXELS // 10**6} megapixels, {MOST_BYTES // 10**6} MB" in text
    assert f"{app.LIMIT_S} s; a search {app.SEARCH_LIMIT_S} s" in text
    assert f"{app.MOST_WAITING} in line" in text
    assert f"| {MOST_NETWORKS}, each" in text
    assert f"within {sum(app.DELETE_CACHE) // 60} minutes" in text
