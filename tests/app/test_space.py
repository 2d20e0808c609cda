"""Tests of the folder as a Hugging Face Space: its front matter says what is true."""

import re
from pathlib import Path

import _texts
import gradio
import yaml
from _hub_fetch import MOST_BYTES as MOST_HUB_BYTES
from _hub_fetch import MOST_MACS
from _hub_models import FETCH_LIMIT_S, MOST_FETCHED
from _integers import MOST_EXPORT_BYTES
from _model_cache import MOST_NETWORK_BYTES
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
    assert f"| networks in memory | {MOST_NETWORK_BYTES // 10**6} MB of parameters" in text
    assert f"within {sum(app.DELETE_CACHE) // 60} minutes" in text
    assert f"| networks in integers | {MOST_EXPORT_BYTES // 10**6} MB, one" in text
    fetched = f"{MOST_HUB_BYTES // 10**6} MB, {MOST_MACS // 10**9} billion MACs, {FETCH_LIMIT_S} s to fetch"
    assert f"{fetched}, after which its process is ended; one at a time, {MOST_FETCHED} are kept" in text


def test_the_requirements_are_extras_of_the_package_and_all_that_the_readme_installs():
    lines = [line for line in (APP / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert lines == ["limpq-hub[app,export]"]
    assert 'pip install ".[app,export]"' in (APP / "README.md").read_text()
    extras = re.findall(r"^(\w+) = \[", (APP.parent / "pyproject.toml").read_text(), re.MULTILINE)
    assert {"app", "export"} <= set(extras)


def test_the_paper_that_the_page_cites_is_the_one_of_the_citation_file():
    paper = yaml.safe_load((APP.parent / ".github" / "CITATION.cff").read_text())["references"][0]
    names = tuple(f"{author['given-names']} {author['family-names']}" for author in paper["authors"])
    assert (paper["title"], names, paper["year"]) == (_texts.PAPER, _texts.AUTHORS, _texts.YEAR)
    assert all(name in _texts.CITATION for name in names)
