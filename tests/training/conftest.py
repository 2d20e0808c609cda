"""What the tests of the training scripts share: generated pictures, and every script run once on them."""

from __future__ import annotations

from pathlib import Path

import finetune
import indicators
import numpy as np
import pretrain
import publish
import pytest
import validate
from PIL import Image
from tiny_run import CLASSES, NETWORK, RUN


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    root, generator = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8) // 2 + 30 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def runs(data, tmp_path_factory) -> Path:
    """Every script once: float network, joint training, fine-tuning, validation, and the entry made of them."""
    root = tmp_path_factory.mktemp("runs")
    steps = [*RUN, "--data", str(data), "--max-steps", "3"]
    weights = ["--weights", str(root / "float/model.safetensors"), "--distill", "0.5", "--no-compile"]
    pretrain.main([*NETWORK, *steps, "--output", str(root / "float")])
    indicators.main([*NETWORK, *steps, *weights, "--output", str(root / "joint")])
    entry = ["--model", f"local-dir:{root}/joint", "--bitops", "w4a4"]
    finetune.main([*entry, *steps, *weights, "--output", str(root / "w4a4")])
    finetune.main([*entry, *steps, *weights, "--from", "float", "--output", str(root / "from-float")])
    measure = [*RUN, "--data", str(data), "--output", str(root / "measured.json")]
    validate.main([*entry, *measure, "--weights", "joint", "--calibrate-images", "16"])
    publish.main(
        [
            "--joint",
            f"{root}/joint",
            "--checkpoint",
            f"w4a4={root}/w4a4",
            "--measured",
            f"{root}/measured.json",
            "--output",
            f"{root}/entry",
        ]
    )
    return root
