"""Vision transformers through every command: joint training, search, fine-tuning, packing, and load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_run import RUN

import limpq_hub
from limpq_hub.quant.quantized import quantized_layers
from limpq_hub.train import finetune, indicators, publish
from limpq_hub.train.settings import NetworkSettings
from limpq_hub.train.weights.networks import float_network
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.loading import NotFineTunedWarning
from limpq_hub.zoo.tensors import tensors_to_bytes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "size", "products"), [("deit_tiny_patch16_224", "32", 24), ("swin_tiny_patch4_window7_224", "64", 24)]
)
def test_attention_network_is_trained_searched_fine_tuned_packed_and_loaded(model, size, products, data, tmp_path):
    steps = [*RUN, "--data", str(data), "--max-steps", "1", "--calibrate-images", "16"]
    network = ["--model", model, "--input-size", size, "--candidates", "8", "3", "--alpha", "1", "--anchor-gap", "999"]
    network += ["--measure-images", "1"]
    indicators.main(
        [
            *network,
            *steps,
            "--per-channel",
            "--weights",
            untrained(model, size, tmp_path),
            "--output",
            f"{tmp_path}/joint",
        ]
    )
    entry = f"local-dir:{tmp_path}/joint"
    costs = find_entry(entry).indicators.costs
    assert sum(cost.is_product for cost in costs.values()) == products
    assert set(find_entry(entry).indicators.divergences) == {name for name, cost in costs.items() if cost.fixed is None}
    finetune.main(["--model", entry, "--bitops", "w3a3", *steps, "--output", f"{tmp_path}/tuned"])
    publish.main(
        ["--joint", f"{tmp_path}/joint", "--checkpoint", f"w3a3={tmp_path}/tuned", "--output", f"{tmp_path}/entry"]
    )
    loaded = limpq_hub.load(f"local-dir:{tmp_path}/entry", bitops="w3a3")
    assert loaded.limpq.weights == "finetuned"
    assert {name for name, _ in quantized_layers(loaded)} == set(costs)
    assert all(layer.bits == loaded.limpq.plan.policy.layers[name] for name, layer in quantized_layers(loaded))
    with pytest.warns(NotFineTunedWarning):
        joint = limpq_hub.load(f"local-dir:{tmp_path}/entry", bitops="w8a8", weights="joint")
    images = torch.rand(2, 3, int(size), int(size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert bool(loaded(images).isfinite().all())
        assert not torch.equal(loaded(images), joint(images))


def untrained(model: str, size: str, folder: Path) -> str:
    """A file of random weights for the four classes."""
    torch.manual_seed(0)
    path = folder / "float.safetensors"
    path.write_bytes(tensors_to_bytes(float_network(NetworkSettings(model, int(size), None), None, 4).state_dict()))
    return str(path)
