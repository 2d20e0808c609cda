"""Batch normalization over two processes: that of the whole batch, and the network has its own modules at the end."""

from __future__ import annotations

import itertools
import socket

import pytest
import timm
import torch
from accelerate import Accelerator
from batch_norm_processes import WORLD, batch_of, norms, recalibrated, save_results_of_one_process, train_one_step
from safetensors.torch import load_file
from torch import nn

from limpq_hub.errors import TrainingError
from limpq_hub.quant.switchable_batch_norm import SwitchableBatchNorm2d
from limpq_hub.train.loop.synchronized_batch_norm import batch_norm_over_all_processes, check_batch_norms


class Two:
    """Stands for the accelerator of one of two processes."""

    num_processes = 2


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """What each of two processes computed on its half of the batch."""
    folder = tmp_path_factory.mktemp("norms")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    torch.multiprocessing.spawn(save_results_of_one_process, (str(folder), port), nprocs=WORLD)
    return [load_file(folder / f"{rank}.safetensors") for rank in range(WORLD)]


@pytest.mark.slow
@pytest.mark.parametrize("name", norms())
def test_batch_normalization_over_two_processes_is_that_of_the_whole_batch_and_measured_anew_that_of_each(
    of_two_processes, name
):
    whole = train_one_step(norms()[name], *batch_of(slice(None)))
    found = [
        {key.removeprefix(f"{name}: "): value for key, value in results.items() if key.startswith(f"{name}: ")}
        for results in of_two_processes
    ]
    for key in ("output", "gradient of input"):
        torch.testing.assert_close(torch.cat([half[key] for half in found]), whole[key], rtol=1e-12, atol=1e-12)
    for key in ("gradient of weight", "gradient of bias"):
        torch.testing.assert_close(sum(half[key] for half in found), whole[key], rtol=1e-12, atol=1e-12)
    for half in found:
        for key in ("running_mean", "running_var", "output in eval mode"):
            torch.testing.assert_close(half[key], whole[key], rtol=1e-12, atol=1e-12)
        assert half["num_batches_tracked"] == whole["num_batches_tracked"] == 2
        assert half["own module restored"]
    expected = recalibrated(nn.Sequential(norms()[name]))
    for half, (key, statistics) in itertools.product(found, expected.items()):
        torch.testing.assert_close(half[key], statistics, rtol=1e-12, atol=1e-12)
    # The halves are different enough to tell one process's statistics from those of both.
    alone = train_one_step(norms()[name], *batch_of(slice(0, 3)))
    assert (alone["running_mean"] - whole["running_mean"]).abs().max() > 1e-2


def test_one_process_keeps_its_batch_normalizations():
    norm = nn.BatchNorm1d(3)
    with batch_norm_over_all_processes(Accelerator(cpu=True), norm):
        assert type(norm) is nn.BatchNorm1d


def test_the_network_has_its_own_modules_again_when_training_fails():
    network = nn.Sequential(nn.BatchNorm2d(3), timm.layers.BatchNormAct2d(3))
    own, during = list(network), []

    def fail() -> None:
        with batch_norm_over_all_processes(Two(), network):
            during.extend(network)
            network.eval()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not {*own} & {*during}
    assert all(now is before for now, before in zip(network, own, strict=True))
    assert not any(norm.training for norm in own)


def test_each_copy_of_a_switchable_normalization_shares_its_tensors_with_the_synchronized_one():
    norm = timm.layers.BatchNormAct2d(3)
    switchable = SwitchableBatchNorm2d(norm, (4, 2), "conv")
    network = nn.Sequential(switchable, nn.BatchNorm2d(3))
    network.append(network[1])  # under two names
    own, before = list(switchable.copies.values()), network.state_dict(keep_vars=True)
    with batch_norm_over_all_processes(Two(), network):
        inside = network.state_dict(keep_vars=True)
        assert list(inside) == list(before)
        assert all(inside[name] is before[name] for name in before)
        assert not {*own} & {*switchable.copies.values()}
        assert switchable.active is switchable.copies["4"]
        assert [copy.act for copy in switchable.copies.values()] == [copy.act for copy in own]
        assert network[1] is network[2]
    assert list(switchable.copies.values()) == own


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(3),
        nn.BatchNorm3d(3),
        nn.SyncBatchNorm(3),
        nn.BatchNorm2d(3, affine=False),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.BatchNorm2d(3, momentum=None),
    ],
    ids=["1d", "3d", "sync", "without-weights", "without-statistics", "plain-average"],
)
def test_a_batch_normalization_that_cannot_span_processes_is_refused_by_name(norm):
    network = nn.Sequential(nn.BatchNorm2d(3), norm)
    message = f"^{type(norm).__name__} as it is cannot span several processes; train with one$"
    with pytest.raises(TrainingError, match=message):
        check_batch_norms(network)
    with pytest.raises(TrainingError, match=message), batch_norm_over_all_processes(Two(), network):
        pass
    assert type(network[0]) is nn.BatchNorm2d
