"""Which options a comparison may be gone on with: those that its figures do not depend on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from drawn_pictures import draw_folders

from limpq_hub.errors import DataError, TrainingError
from limpq_hub.train import compare
from limpq_hub.train.loop.provenance import versions
from limpq_hub.train.measure.figure_dependence import MAY_CHANGE, what_figures_depend_on
from limpq_hub.train.measure.measurement_cache import FORMAT, MeasurementCache
from limpq_hub.zoo.catalog import find_entry


@pytest.fixture
def folders(tmp_path) -> Path:
    return draw_folders(tmp_path)


@pytest.mark.parametrize(
    ("words", "goes_on"),
    [
        (("--cache-images",), True),
        (("--workers", "5", "--threads", "3"), True),
        (("--seed", "1"), False),
        (("--channels-last",), False),
    ],
)
def test_how_pictures_are_read_changes_no_figure(folders, words, goes_on):
    entry, given = find_entry("resnet18"), ["--model", "resnet18", "--data", str(folders), "--output", "out"]
    plain, changed = (what_figures_depend_on(compare.parse_options([*given, *more]), entry) for more in ((), words))
    assert (plain == changed) is goes_on


def test_an_option_that_an_earlier_version_wrote_beside_the_figures_is_not_compared(tmp_path):
    path, settings = tmp_path / "measured.json", {"seed": 0, "versions": versions()}
    stored = {"format": FORMAT, "settings": settings | {"cache_images": False}, "figures": {"joint": {"kl": 0.5}}}
    path.write_text(json.dumps(stored))
    assert MeasurementCache(path, {"seed": 0}, may_change=MAY_CHANGE).figures == stored["figures"]
    with pytest.raises(TrainingError) as refused:
        MeasurementCache(path, {"seed": 1}, may_change=MAY_CHANGE)
    assert str(refused.value) == f"{path} was measured with different seed; choose another --output"


def test_a_comparison_whose_finetuning_would_learn_what_is_measured_by_is_refused_before_anything_is_measured(
    folders, tmp_path
):
    words = ["--model", "resnet18", "--data", str(folders), "--steps", "1", "--batch-size", "1"]
    with pytest.raises(DataError, match="^--train-split val and --val-split val are the same pictures of --data "):
        compare.main([*words, "--train-split", "val", "--val-split", "val", "--output", f"{tmp_path}/out"])
    assert not (tmp_path / "out/measured.json").exists()
