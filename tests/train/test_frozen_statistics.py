"""Trainings that keep the float network's BatchNorm statistics: corrected for each policy, and not trained further."""

from __future__ import annotations

import pytest
import torch
from tiny_run import NETWORK, RUN

from limpq_hub.quant.batch_norm_correction import correct_batch_norm_
from limpq_hub.quant.convert import select_policy
from limpq_hub.quant.pair_divergence import pair_divergences
from limpq_hub.quant.running_statistics import active_batch_norms
from limpq_hub.train import finetune, indicators
from limpq_hub.train.data.loaders import calibration_batches
from limpq_hub.train.measure.pair_importance import Measuring, measured_layers
from limpq_hub.train.settings import DataSettings
from limpq_hub.train.weights.networks import float_network_of
from limpq_hub.zoo.anchors import statistics_of_entry
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry_folder import load_supernet
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.planning import search

IMAGES = 16


@pytest.fixture(scope="module")
def entry(runs, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen") / "joint"
    options = ["--weights", f"{runs}/float/model.safetensors", "--distill", "0.5", "--max-steps", "1", "--alpha", "8"]
    options += ["--anchor-gap", "99", "--calibrate-images", str(IMAGES), "--freeze-batch-norm"]
    indicators.main([*NETWORK, *RUN, "--data", str(data), *options, "--output", str(folder)])
    return find_entry(f"local-dir:{folder}")


def corrected_at_the_start(entry, data):
    policy = search(entry.indicators, bitops="w3a3").policy
    network = select_policy(load_supernet(entry.folder, entry.indicators), policy).eval()
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    images = calibration_batches(DataSettings(str(data), batch_size=8, workers=0, seed=0), spec, IMAGES)
    correct_batch_norm_(network, images, float_network_of(entry, None))
    return network


def means(network) -> torch.Tensor:
    return torch.cat([norm.running_mean for norm in active_batch_norms(network).values()])


def test_an_entry_serves_corrected_statistics(entry):
    assert statistics_of_entry(entry.folder) == "corrected"


def test_a_policy_is_fine_tuned_with_the_statistics_that_are_corrected_for_it(entry, data, tmp_path):
    options = ["--model", entry.name, "--bitops", "w3a3", "--data", str(data), *RUN, "--max-steps", "2"]
    options += ["--freeze-batch-norm", "--calibrate-images", str(IMAGES), "--output", str(tmp_path / "out")]
    finetune.main(options)
    tuned, _ = load_checkpoint(open_local_folder(tmp_path / "out", "checkpoint"))
    expected = corrected_at_the_start(entry, data)
    torch.testing.assert_close(means(tuned), means(expected), rtol=2e-3, atol=2e-4)
    assert not torch.allclose(means(tuned), means(float_network_of(entry, None)), rtol=2e-3, atol=2e-4)
    trained, before = (torch.cat([norm.weight for norm in active_batch_norms(of).values()]) for of in (tuned, expected))
    assert not torch.equal(trained, before)


def test_pairs_of_bits_are_measured_with_statistics_that_are_corrected_for_each(entry, data):
    spec = NetworkSpec.from_config(entry.folder.config, entry.name)
    images = calibration_batches(DataSettings(str(data), batch_size=8, workers=0, seed=0), spec, IMAGES)
    network = float_network_of(entry, None)
    with torch.no_grad():
        references = [network(batch).log_softmax(-1) for batch in images]
    layer = next(iter(entry.indicators.weight_steps))
    measured = dict(measured_layers(Measuring(entry, images, "joint", None), [layer]))[layer]
    supernet = load_supernet(entry.folder, entry.indicators)
    for matched_to, same in ((network, True), (None, False)):
        expected = dict(pair_divergences(supernet, images, references, layers=[layer], matched_to=matched_to))[layer]
        assert (measured == pytest.approx({bits: max(0.0, value) for bits, value in expected.items()})) is same
    # As the end of the joint training measures them, on all of these images and with the others at 3 bits.
    (told,) = dict(measured_layers(Measuring(entry, images, "joint", 3), [layer])).values()
    assert entry.indicators.divergences[layer] == pytest.approx(told)
    assert measured != pytest.approx(told)
