"""Tests of the photographs of the demo: each is small, shown with its credit, and of a class that can be found."""

from pathlib import Path

from _photographs import credits_text, photographs, thumbnails_css
from _zoo import entry_of
from PIL import Image

from limpq_hub import list_models

FOLDER = Path(__file__).parents[2] / "app" / "photographs"


def test_every_picture_in_the_folder_has_a_credit_and_every_credit_a_picture():
    assert sorted(photograph.file for photograph in photographs()) == sorted(path.name for path in FOLDER.glob("*.jpg"))


def test_author_source_and_licence_of_each_stand_on_the_page_with_what_was_changed():
    text = credits_text()
    for photograph in photographs():
        assert photograph.licence == "CC BY 2.0"
        assert f"<a href='{photograph.source}'" in text
        assert f">{photograph.author}</a>" in text
        assert photograph.source.startswith("https://www.flickr.com/photos/")
        assert photograph.changes in text
    assert "<a href='https://creativecommons.org/licenses/by/2.0/'" in text


def test_all_together_are_below_300_kilobytes_and_each_is_a_square():
    assert sum(photograph.path.stat().st_size for photograph in photographs()) < 300_000
    for photograph in photographs():
        with Image.open(photograph.path) as picture:
            assert picture.size == (299, 299)


def test_what_they_show_are_classes_of_every_bundled_entry():
    for model in list_models():
        classes = {label["id"] for label in entry_of(model).classes}
        assert {photograph.class_id for photograph in photographs()} <= classes, model


def test_the_button_of_each_shows_it():
    rules = thumbnails_css().splitlines()
    assert len(rules) == len(photographs())
    for rule, photograph in zip(rules, photographs(), strict=True):
        assert photograph.thumbnail in rule
