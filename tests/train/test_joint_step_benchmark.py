"""The rows of the benchmark train the same way: the published step and ours have equal gradients."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.quant.quantizer import LsqQuantizer

SCRIPT = Path(__file__).parents[1] / "benchmarks/joint_step.py"
PUBLISHED, OURS = "published, plain operations", "ours"
# The first layer of each network, one beside its blocks, and the last.
LEARNED = {
    "resnet18": {"conv1.weight", "layer2.0.downsample.0.weight", "fc.weight"},
    "test_resnet": {"conv1.0.weight", "layer2.0.downsample.1.weight", "fc.weight"},
}


class NoOptimizer:
    """Leaves weights and gradients as they are."""

    def __init__(self, network: nn.Module) -> None:
        pass

    def step(self) -> None:
        pass

    def zero_grad(self) -> None:
        pass


@pytest.fixture(scope="module", params=["test_resnet", pytest.param("resnet18", marks=pytest.mark.slow)])
def benchmark(request) -> ModuleType:
    """The script with a network of a few small layers, or with its own."""
    spec = importlib.util.spec_from_file_location("joint_step_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
    module.MODEL = request.param
    return module


def images_of(batch: int, size: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(batch, 3, size, size)


def gradients_of(row) -> dict[str, Tensor]:
    row.step()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in row.network.named_parameters()
    }


@torch.no_grad()
def give_every_branch_a_gradient_(network: nn.Module) -> None:
    """Let no normalization start at zero, as timm's last ones do, and no step lie outside the published clamp."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.0)
        if isinstance(module, LsqQuantizer):
            module.step.clamp_(1e-4, 0.9)


@pytest.mark.parametrize(
    ("dtype", "allowed"), [(torch.float64, 1e-9), pytest.param(torch.float32, 1e-3, marks=pytest.mark.slow)]
)
def test_the_published_row_and_ours_have_the_same_gradients(benchmark, monkeypatch, dtype, allowed):
    monkeypatch.setattr(benchmark, "_optimizer", NoOptimizer)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        rows = benchmark.rows_of(Accelerator(cpu=True), images_of(4, 32))
    finally:
        torch.set_default_dtype(before)
    published, ours = rows[PUBLISHED], rows[OURS]
    give_every_branch_a_gradient_(published.network)
    ours.network.load_state_dict(published.network.state_dict())
    assert type(published.network.layer1[0].conv1.weight_quantizer) is benchmark.PublishedQuantizer
    assert type(ours.network.layer1[0].conv1.weight_quantizer) is LsqQuantizer
    expected, found = gradients_of(published), gradients_of(ours)
    assert expected.keys() == found.keys()
    assert {gradient.dtype for gradient in found.values()} == {dtype}
    for kind in ("weight_quantizer.step", "activation_quantizer.step", "conv1.weight", "fc.weight", "conv2.weight"):
        one, other = (
            torch.cat([g.flatten() for n, g in all_.items() if n.endswith(kind)]) for all_ in (expected, found)
        )
        assert one.norm() > 0, kind
        # In float32 a rounding error may send a value to the next level, so the whole is compared.
        assert (one - other).norm() <= allowed * one.norm(), kind


def test_three_rows_are_shown_of_one_network_each(benchmark):
    rows = benchmark.rows_of(Accelerator(cpu=True), images_of(4, 32))
    assert list(rows) == ["float step", PUBLISHED, OURS]
    weights = [next(row.network.parameters()).detach() for row in rows.values()]
    assert all(torch.equal(first, weights[0]) for first in weights)
    assert len({id(row.network) for row in rows.values()}) == 3


def test_every_row_learns(benchmark):
    rows = benchmark.rows_of(Accelerator(cpu=True), images_of(4, 32))
    for name, row in rows.items():
        before = {key: parameter.detach().clone() for key, parameter in row.network.named_parameters()}
        row.step()
        changed = {key for key, parameter in row.network.named_parameters() if not torch.equal(parameter, before[key])}
        assert LEARNED[benchmark.MODEL] <= changed, name
        assert all(parameter.grad is None for parameter in row.network.parameters()), name


def test_our_step_saves_at_most_six_tenths_of_the_published_bytes(benchmark):
    rows = benchmark.rows_of(Accelerator(cpu=True), images_of(8, 64))
    saved = {name: benchmark._saved_bytes(row) for name, row in rows.items()}
    assert saved[OURS] <= 0.6 * saved[PUBLISHED]
    assert saved["float step"] < saved[OURS]


def test_saved_bytes_count_each_piece_of_memory_once_and_leave_the_parameters_out(benchmark):
    network = nn.Linear(1, 1)
    x = torch.ones(1000, requires_grad=True)

    def forward() -> Tensor:
        y = x.exp()  # keeps its result, which both operations below keep too
        return (y.view(10, 100) * network.weight).sum() + y.sin().sum()

    assert benchmark._saved_bytes(benchmark.Row(forward, forward, network)) == 1000 * 4
