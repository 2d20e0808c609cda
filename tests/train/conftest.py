"""What the tests of the training commands share: generated pictures, and every command run once on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_run import CLASSES, FRONT, NETWORK, RUN

from limpq_hub.train import finetune, front, indicators, pretrain, publish
from limpq_hub.train.data.picture_loader import loader_speed
from limpq_hub.train.loop import fit as _loop
from limpq_hub.train.loop.state import TrainingState


def draw(root: Path, counts: dict[str, int], brightness: Callable[[int, int], int]) -> Path:
    """Write noise of which class and index tell how bright it is, so many pictures per class in each split."""
    generator = np.random.default_rng(0)
    for split, count in counts.items():
        for label in range(CLASSES):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (40, 40, 3), dtype=np.uint8) // 2 + brightness(label, index)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root


@pytest.fixture(scope="session", autouse=True)
def _loaders_measured_by_a_batch() -> Iterator[None]:
    """Runs of a few steps measure their loader by one batch: the seconds of a real run would be a whole epoch here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(_loop, "loader_speed", partial(loader_speed, seconds=0))
        yield


@pytest.fixture
def cut_after_a_save(monkeypatch) -> Callable[[Callable[[list[str]], None], list[str]], None]:
    """Return a function that runs a command up to its first saved state, and ends it there as Ctrl-C does."""

    def run(main: Callable[[list[str]], None], arguments: list[str]) -> None:
        save = TrainingState.save

        def save_and_stop(*state: object) -> None:
            save(*state)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(TrainingState, "save", save_and_stop)
            with pytest.raises(KeyboardInterrupt):
                main(arguments)

    return run


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Pictures whose brightness is their class: every network that learned a little is right about all of them."""
    return draw(tmp_path_factory.mktemp("pictures"), {"train": 8, "val": 4}, lambda label, index: 30 * label)


@pytest.fixture(scope="session")
def hard_data(tmp_path_factory) -> Path:
    """Pictures of the same classes whose brightness tells little: networks differ in what they make of them."""
    counts = {"train": 36, "val": 12}
    return draw(tmp_path_factory.mktemp("hard"), counts, lambda label, index: (30 * label + 37 * index) % 128)


@pytest.fixture(scope="session")
def runs(data, hard_data, tmp_path_factory) -> Path:
    """Every command once: float network, joint training, fine-tuning, the front, and the entry made of them."""
    root = tmp_path_factory.mktemp("runs")
    steps = [*RUN, "--data", str(data), "--max-steps", "3"]
    weights = ["--weights", str(root / "float/model.safetensors"), "--distill", "0.5"]
    # Within three steps it learns what the tests tell networks apart by.
    pretrain.main([*NETWORK, *steps, "--lr", "0.4", "--warmup-epochs", "0", "--output", str(root / "float")])
    indicators.main([*NETWORK, *steps, *weights, "--output", str(root / "joint")])
    entry = ["--model", f"local-dir:{root}/joint", "--bitops", "w4a4"]
    finetune.main([*entry, *steps, *weights, "--output", str(root / "w4a4")])
    finetune.main([*entry, *steps, *weights, "--from", "float", "--output", str(root / "from-float")])
    measure = [*RUN, "--data", str(hard_data), "--calibrate-images", "16", "--output", str(root / "front.json")]
    front.main(["--model", f"local-dir:{root}/joint", "--bitops", *FRONT, *measure])
    made = ["--joint", f"{root}/joint", "--checkpoint", f"w4a4={root}/w4a4", "--front", f"{root}/front.json"]
    publish.main([*made, "--output", f"{root}/entry"])
    return root
