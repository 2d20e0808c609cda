"""The compiled quantizer against the hand-written one and the composed formula, and what happens without a compiler."""

import copy
import json

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from limpq_hub.quant import compiled
from limpq_hub.quant.compiled import CompiledFakeQuantize, use_compiled_quantizer_
from limpq_hub.quant.fake_quantization import FakeQuantize
from limpq_hub.quant.quantizer import LsqQuantizer

GRIDS = [(-2, 1), (0, 3), (-8, 7), (0, 15), (-128, 127), (0, 255)]
SHAPES = [(), (1,), (0, 3, 2, 2), (33,), (7, 9), (2, 5, 6), (2, 3, 4, 5), (1, 1, 4, 4), (2, 3, 1, 1)]


@pytest.fixture(scope="module")
def compiler():
    """Skip where nothing can be compiled.

    The limit of recompilations is raised here: only the tests of recompilation below depend on it.
    """
    torch._dynamo.reset()
    compiled._compiled_loops.cache_clear()
    why_not = use_compiled_quantizer_(nn.Linear(2, 2))
    if why_not:
        pytest.skip(f"no C++ compiler works here: {why_not}")
    with torch._dynamo.config.patch(recompile_limit=64):
        yield


def results_of(function, x: Tensor, step: Tensor, grid: tuple[int, int], upstream: Tensor) -> tuple[Tensor, ...]:
    x, step = x.detach().requires_grad_(), step.detach().requires_grad_()
    quantized = function.apply(x, step, *grid, 0.25)
    return quantized.detach(), *torch.autograd.grad(quantized, (x, step), upstream)


def composed_step_gradient(x: Tensor, step: Tensor, grid: tuple[int, int], upstream: Tensor) -> Tensor:
    """In float64, but rounded and told inside from outside where float32 does."""
    low, high = grid
    scaled = x.float() / step
    of_each = torch.where(scaled < low, low, torch.where(scaled > high, high, scaled.round() - x.double() / step))
    return 0.25 * (of_each * upstream.double()).sum()


def equal_to_the_hand_written(x: Tensor, grid: tuple[int, int], upstream: Tensor) -> None:
    step = torch.tensor(1.7 / grid[1])
    ours = results_of(CompiledFakeQuantize, x, step, grid, upstream)
    other = results_of(FakeQuantize, x, step, grid, upstream)
    assert [result.shape for result in ours] == [x.shape, x.shape, ()]
    assert [result.dtype for result in ours] == [x.dtype, x.dtype, torch.float32]
    assert torch.equal(ours[0], other[0])
    assert torch.equal(ours[1], other[1])
    exact = composed_step_gradient(x, step, grid, upstream)
    scale = 0.25 * upstream.double().square().sum().sqrt().item() * max(grid[1], 1)
    assert ours[2].item() == pytest.approx(exact.item(), rel=1e-5, abs=1e-6 * scale + 1e-12)
    if x.dtype == torch.float32:
        assert ours[2].item() == pytest.approx(other[2].item(), rel=1e-5, abs=1e-6 * scale + 1e-12)


@pytest.mark.parametrize("grid", GRIDS)
def test_values_and_gradients_equal_the_hand_written_ones_at_every_shape(compiler, grid):
    torch.manual_seed(0)
    for shape in SHAPES:
        equal_to_the_hand_written(torch.randn(shape), grid, torch.randn(shape))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("of_gradient", ["contiguous", "channels_last", "strided"])
@pytest.mark.parametrize("of_input", ["contiguous", "channels_last", "strided"])
def test_values_and_gradients_do_not_depend_on_how_tensors_lie_in_memory(compiler, of_input, of_gradient, dtype):
    torch.manual_seed(0)
    layouts = {
        "contiguous": lambda x: x,
        "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
        "strided": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    }
    x, upstream = torch.randn(2, 2, 3, 4, 5).to(dtype)
    for grid in GRIDS:
        equal_to_the_hand_written(layouts[of_input](x), grid, layouts[of_gradient](upstream))


def test_an_expanded_gradient_is_taken_as_it_is(compiler):
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    for values in (x, x.contiguous(memory_format=torch.channels_last)):
        equal_to_the_hand_written(values, (-2, 1), torch.tensor(2.0).expand(x.shape))


def test_edges_count_as_inside_and_the_numbers_next_to_them_as_outside(compiler):
    inf = torch.tensor(torch.inf)
    for low, high in GRIDS:
        edges = torch.tensor([low, high]) * 0.5
        outside = torch.stack([torch.nextafter(edges[0], -inf), torch.nextafter(edges[1], inf)])
        outside[0] = outside[0] if low else -torch.finfo(torch.float32).tiny
        x = torch.cat([edges, torch.tensor([-0.0]), outside])
        upstream = torch.tensor([1.0, 2, 4, 8, 16])
        _, x_gradient, step_gradient = results_of(CompiledFakeQuantize, x, torch.tensor(0.5), (low, high), upstream)
        assert x_gradient.tolist() == [1, 2, 4, 0, 0]
        assert step_gradient.item() == 0.25 * (8 * low + 16 * high)


def test_channels_last_stays_channels_last(compiler):
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    quantized, gradient, _ = results_of(CompiledFakeQuantize, x, torch.tensor(0.3), (-2, 1), torch.ones_like(x))
    assert quantized.is_contiguous(memory_format=torch.channels_last)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_only_the_input_and_the_step_are_kept_for_the_backward_pass(compiler):
    kept = []
    x, step = torch.randn(5, 5, requires_grad=True), torch.tensor(0.3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda saved: kept.append(saved) or saved, lambda saved: saved):
        CompiledFakeQuantize.apply(x, step, -2, 1, 1.0)
    assert [saved.data_ptr() for saved in kept] == [x.data_ptr(), step.data_ptr()]


@pytest.mark.parametrize("wanted", ["x", "step"])
def test_the_gradient_of_one_alone_is_the_same(compiler, wanted):
    torch.manual_seed(0)
    values, upstream = {"x": torch.randn(300), "step": torch.tensor(0.2)}, torch.randn(300)
    _, *both = results_of(CompiledFakeQuantize, values["x"], values["step"], (-4, 3), upstream)
    leaves = {name: value.clone().requires_grad_(name == wanted) for name, value in values.items()}
    CompiledFakeQuantize.apply(leaves["x"], leaves["step"], -4, 3, 0.25).backward(upstream)
    assert torch.equal(leaves[wanted].grad, both[list(values).index(wanted)])
    assert all(leaf.grad is None for name, leaf in leaves.items() if name != wanted)


def test_quantizers_of_a_model_run_compiled_and_a_copy_does_too(compiler, supernet, images):
    plain = copy.deepcopy(supernet).train()
    assert use_compiled_quantizer_(supernet) is None
    twin = copy.deepcopy(supernet).train()
    quantizers = [module for module in twin.modules() if isinstance(module, LsqQuantizer)]
    assert {quantizer.arithmetic for quantizer in quantizers} == {CompiledFakeQuantize}
    assert plain.expand.weight_quantizer.arithmetic is FakeQuantize
    assert twin.state_dict().keys() == plain.state_dict().keys()
    outputs = [network(images) for network in (twin, plain)]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for (name, ours), other in zip(twin.named_parameters(), plain.parameters(), strict=True):
        assert (ours.grad is None) == (other.grad is None), name
        if ours.grad is not None:
            # Sums of terms of both signs, added in another order.
            torch.testing.assert_close(ours.grad, other.grad, rtol=1e-3, atol=1e-6)
    assert supernet.expand.weight.grad is None


def tensors_of_real_networks() -> list[Tensor]:
    """What quantizers of ResNets, MobileViTs and Swins see: weights and activations of 2, 3 and 4 dimensions."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(8, 4, 3, 3), (64, 32, 1, 1), (40, 20), (2, 8, 6, 6), (2, 5, 20), (2, 3, 3, 24), (33,)]
    plain = [torch.randn(size, generator=generator) for size in sizes]
    last = [x.contiguous(memory_format=torch.channels_last) for x in plain if x.ndim == 4]
    return plain + last + [plain[3][:, :, ::2], plain[2].t()]


def quantize_all(dtypes=(torch.float32,)) -> None:
    for dtype in dtypes:
        for number, x in enumerate(tensors_of_real_networks()):
            x = x.to(dtype).requires_grad_()
            low, high = GRIDS[number % len(GRIDS)]
            # A leaf, as a weight is, and the result of an operation, as an activation is.
            for values in (x, x * 1):
                step = torch.tensor(0.1, requires_grad=True)
                CompiledFakeQuantize.apply(values, step, low, high, 1.0).square().sum().backward()


@pytest.fixture
def as_at_the_start(compiler):
    """Nothing compiled but what `use_compiled_quantizer_` does, within the limit of recompilations that users have."""
    torch._dynamo.reset()
    compiled._compiled_loops.cache_clear()
    counters.clear()
    with torch._dynamo.config.patch(recompile_limit=8):
        assert use_compiled_quantizer_(nn.Linear(2, 2)) is None
        yield
    torch._dynamo.reset()
    compiled._compiled_loops.cache_clear()


def test_each_loop_is_compiled_once_for_all_shapes_and_bits(as_at_the_start):
    with torch._dynamo.config.patch(recompile_limit=64):
        quantize_all()
    # Two loops; inductor makes another version of the sum for tensors above 4096 elements.
    assert counters["stats"]["unique_graphs"] <= 3


def test_networks_of_many_shapes_in_two_precisions_stay_within_the_limit_of_recompilations(as_at_the_start):
    allowed = torch._dynamo.config.recompile_limit
    with torch._dynamo.config.patch(recompile_limit=64):
        quantize_all((torch.float32, torch.bfloat16))
    # Fewer graphs of both loops together than either of them may have.
    assert counters["stats"]["unique_graphs"] < allowed


@pytest.mark.parametrize("error", [RuntimeError, OSError, ImportError])
def test_without_a_compiler_the_reason_is_one_line_and_the_model_stays_as_it_was(supernet, monkeypatch, error):
    def broken(*arguments):
        raise error("no compiler\n  found " + "here " * 100)

    monkeypatch.setattr(compiled, "_compiled_loops", broken)
    why_not = use_compiled_quantizer_(supernet)
    assert why_not == ("no compiler found " + "here " * 100)[:120]
    quantizers = [module for module in supernet.modules() if isinstance(module, LsqQuantizer)]
    assert {quantizer.arithmetic for quantizer in quantizers} == {FakeQuantize}


def test_an_error_without_words_is_named(supernet, monkeypatch):
    def broken():
        raise OSError

    monkeypatch.setattr(compiled, "_compiled_loops", broken)
    assert use_compiled_quantizer_(supernet) == "OSError"


WITHOUT_COMPILER = """
import contextlib, io, json, sys, types
sys.path.insert(0, "training")
import torch
from limpq_hub.quant.compiled import use_compiled_quantizer_
from limpq_hub.quant.quantizer import LsqQuantizer
from limpq_hub.train.method.networks import run_compiled_
model = torch.nn.Sequential(torch.nn.Linear(2, 2), LsqQuantizer((4,), signed=True, per_sample=False))
run_compiled_(types.SimpleNamespace(is_main_process=True), model)
with contextlib.redirect_stderr(io.StringIO()) as of_others:
    run_compiled_(types.SimpleNamespace(is_main_process=False), model)
model(torch.ones(3, 2)).sum().backward()
learned = model[1].step.grad.item() != 0
used = model[1].arithmetic.__name__
reason = use_compiled_quantizer_(model)
print(json.dumps({"reason": reason, "of_others": of_others.getvalue(), "used": used, "learned": learned}))
"""


def test_a_compiler_that_is_not_there_costs_one_line_only(run_python, tmp_path):
    done = run_python(
        WITHOUT_COMPILER, CXX="/nonexistent", TORCHINDUCTOR_CACHE_DIR=str(tmp_path), PYTHONWARNINGS="error"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["reason"].startswith("InvalidCxxCompiler: No working C++ compiler found")
    assert len(found["reason"].splitlines()) == 1
    assert len(found["reason"]) <= 120
    assert done.stderr == f"the quantizer runs uncompiled: {found['reason']}\n"
    assert found["of_others"] == ""
    assert found["used"] == "FakeQuantize"
    assert found["learned"]


def test_with_a_compiler_nothing_is_printed(compiler, supernet, capsys):
    from accelerate import Accelerator

    from limpq_hub.train.method.networks import run_compiled_

    run_compiled_(Accelerator(cpu=True), supernet)
    assert capsys.readouterr() == ("", "")
    assert supernet.expand.weight_quantizer.arithmetic is CompiledFakeQuantize
