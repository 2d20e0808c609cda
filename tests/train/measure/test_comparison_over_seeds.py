"""The script that averages comparisons over seeds: which files it reads, and what it refuses to average."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmarks.comparison_over_seeds import rows_of
from safetensors.torch import save_file

NAMES = {"learned": "a" * 64, "other": "b" * 64}


def folder_of(path: Path, above: float, *, steps: int = 100, images: int = 4) -> Path:
    """Return a comparison whose other policy has so many nats more, and one image in four wrong that was right."""
    (path / "of-images").mkdir(parents=True, exist_ok=True)
    rows = [
        {"budget": "w3a3", "contender": name, "policy_sha256": digest, "finetuned": {}}
        for name, digest in NAMES.items()
    ]
    (path / "comparison.json").write_text(json.dumps({"comparison": rows}))
    for name, digest in NAMES.items():
        kl = torch.full((images,), 0.5 + (above if name == "other" else 0.0))
        right = torch.ones(images, dtype=torch.bool)
        right[0] = name == "learned"
        save_file({"kl": kl, "right": right}, path / f"of-images/finetuned-{steps}-{digest[:16]}.safetensors")
    return path


def test_images_and_seeds_make_one_error(tmp_path):
    folders = [folder_of(tmp_path / str(seed), above) for seed, above in enumerate((0.25, 0.75))]
    (row,) = rows_of(folders)
    # The images do not differ in nats; the two seeds do by 0.5, and half of that is the error of their mean.
    assert row.startswith("| w3a3 | other | +0.5000 ± 0.2500 | +0.2500 +0.7500 | -25.00 ± 25.00 | -25.00 -25.00 | ")
    assert row.endswith(" level |")


def test_of_several_lengths_of_fine_tuning_one_has_to_be_chosen(tmp_path):
    folder = folder_of(tmp_path, 0.25)
    folder_of(tmp_path, 0.5, steps=20)
    with pytest.raises(SystemExit, match="has fine-tunings of several lengths: choose one with --steps"):
        rows_of([folder])
    assert "+0.2500" in rows_of([folder], steps=100)[0]
    assert "+0.5000" in rows_of([folder], steps=20)[0]


def test_a_file_that_is_missing_is_named(tmp_path):
    folder = folder_of(tmp_path, 0.25)
    (missing,) = folder.glob("of-images/*bbbb*")
    missing.unlink()
    with pytest.raises(SystemExit, match=r"finetuned-\*-b{16}.safetensors is not there: run the comparison of this"):
        rows_of([folder])


def test_other_images_are_not_averaged(tmp_path):
    folders = [folder_of(tmp_path / "4", 0.25), folder_of(tmp_path / "8", 0.25, images=8)]
    with pytest.raises(SystemExit, match="^comparisons of 4 and 8 images cannot be averaged"):
        rows_of(folders)
