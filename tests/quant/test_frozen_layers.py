"""Tests of frozen layers: the network of training but for rounding, and exactly that wherever it is looked into."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn

from limpq_hub import load
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.batch_norm_calibration import average_batch_norm_
from limpq_hub.quant.convert import to_quantized
from limpq_hub.quant.folded_norms import FoldedBatchNorm2d, FoldedBatchNormAct2d
from limpq_hub.quant.frozen_layers import FrozenConv2d, FrozenConv2dSame, FrozenLinear, freeze_, thaw_
from limpq_hub.quant.integer_layers import IntegerConv2d, has_vnni, run_in_integers_
from limpq_hub.quant.profile import profile_module
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.folder import open_local_folder

SHAPE = (3, 12, 12)


class Net(nn.Module):
    """Every kind of place that a normalization can stand in."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=True)  # folded, with a bias
        self.stem_norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)  # folded, with an activation
        self.act_norm = BatchNormAct2d(8)
        self.branch = nn.Conv2d(8, 8, 1, bias=False)  # taken by its normalization and by an addition
        self.branch_norm = nn.BatchNorm2d(8)
        self.before = nn.BatchNorm2d(8)  # takes a sum
        self.again = nn.Conv2d(8, 8, 1)  # runs twice
        self.again_norm = nn.BatchNorm2d(8)
        self.plain = nn.Conv2d(8, 4, 3, bias=False)  # folded, without factors of its own
        self.plain_norm = nn.BatchNorm2d(4, affine=False)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = self.act_norm(self.depthwise(x))
        branch = self.branch(x)
        x = torch.relu(self.before(x + branch + self.branch_norm(branch)))
        x = torch.relu(self.again_norm(self.again(torch.relu(self.again(x)))))
        return self.head(torch.relu(self.plain_norm(self.plain(x))).mean((2, 3)))


def quantized(module: nn.Module, *, per_channel: bool = False, bits: int = 4) -> nn.Module:
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0  # a single batch gives the statistics
            if part.affine:
                part.weight.data = torch.where(torch.rand_like(part.weight) < 0.3, -1.0, 1.0)  # as trained ones are
                nn.init.uniform_(part.bias, -0.3, 0.7)
    example = torch.randn(64, *SHAPE)
    with torch.no_grad():
        module.train()(example)
    policy = Policy.uniform("net", profile_module(module, example), bits)
    network = to_quantized(module, policy, example_input=example, per_channel=per_channel, step_start="lsq")
    return network.eval().requires_grad_(False)


@pytest.fixture(params=[False, True], ids=["one step", "a step per channel"])
def network(request) -> nn.Module:
    return quantized(Net(), per_channel=request.param)


@pytest.fixture
def frozen(network) -> nn.Module:
    twin = copy.deepcopy(network)
    freeze_(twin, SHAPE)
    return twin


@pytest.fixture
def images() -> Tensor:
    return torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(1))


def check_close(found: Tensor, expected: Tensor) -> None:
    """Rows agree in all but the last digits; where a value fell to the other integer a row may differ."""
    equal = torch.isclose(found, expected, rtol=1e-3, atol=1e-4).all(1)
    assert found.dtype == expected.dtype
    assert equal.float().mean() >= 0.75, (found - expected).abs().amax(1)


def test_a_frozen_network_computes_the_same_but_for_rounding(network, frozen, images):
    with torch.inference_mode():
        check_close(frozen(images), network(images))


def test_what_only_a_normalization_takes_is_folded_and_nothing_else(frozen):
    assert {name: type(layer) for name, layer in frozen.named_children()} == {
        "stem": FrozenConv2d,
        "stem_norm": FoldedBatchNorm2d,
        "depthwise": FrozenConv2d,
        "act_norm": FoldedBatchNormAct2d,
        "branch": FrozenConv2d,
        "branch_norm": nn.BatchNorm2d,
        "before": nn.BatchNorm2d,
        "again": FrozenConv2d,
        "again_norm": nn.BatchNorm2d,
        "plain": FrozenConv2d,
        "plain_norm": FoldedBatchNorm2d,
        "head": FrozenLinear,
    }


def test_what_a_network_returns_beside_its_logits_is_not_folded(images):
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            feature = self.conv(x)
            return {"feature": feature, "logits": self.head(torch.relu(self.norm(feature)).mean((2, 3)))}

    network = quantized(Features())
    twin = copy.deepcopy(network)
    freeze_(twin, SHAPE)
    with torch.no_grad():
        torch.testing.assert_close(twin(images)["feature"], network(images)["feature"])


class BesideNorm(nn.Module):
    """Something else is done with what a convolution gives than to normalize it."""

    def __init__(self, beside) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.beside = beside

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.beside is writes_in_part:
            self.beside(x)
            return self.head(torch.relu(self.norm(x)).mean((2, 3)))
        return self.head((torch.relu(self.norm(x)) + self.beside(x)).mean((2, 3)))


def writes_in_part(x: Tensor) -> None:
    x[:, :2] = 0.0


@pytest.mark.parametrize(
    "beside",
    [writes_in_part, lambda x: x[:, :1].tanh(), torch.vmap(torch.tanh)],
    ids=["written in part", "a view taken", "vmap"],
)
def test_what_is_used_beside_its_normalization_is_not_folded(images, beside):
    network = quantized(BesideNorm(beside))
    twin = copy.deepcopy(network)
    freeze_(twin, SHAPE)
    assert type(twin.norm) is nn.BatchNorm2d
    with torch.no_grad():
        check_close(twin(images), network(images))


def test_state_and_parameters_are_those_of_the_network(network, frozen):
    assert frozen.state_dict().keys() == network.state_dict().keys()
    assert all(torch.equal(value, frozen.state_dict()[key]) for key, value in network.state_dict().items())
    assert [name for name, _ in frozen.named_modules()] == [name for name, _ in network.named_modules()]


def test_thawed_it_is_the_network_to_the_last_bit(network, frozen, images):
    frozen(images)
    assert thaw_(frozen) is frozen
    assert [type(module) for module in frozen.modules()] == [type(module) for module in network.modules()]
    assert [vars(module).keys() for module in frozen.modules()] == [vars(module).keys() for module in network.modules()]
    with torch.inference_mode():
        assert torch.equal(frozen(images), network(images))


def test_train_mode_is_that_of_the_network_and_eval_mode_sees_what_it_changed(network, frozen, images):
    for model in (network, frozen):
        model.train()
        model.outputs = model(images)
        model.eval()
    assert torch.equal(frozen.outputs, network.outputs)
    with torch.inference_mode():
        check_close(frozen(images), network(images))


def test_gradients_are_those_of_the_network(network, frozen, images):
    for model in (network, frozen):
        x = images.clone().requires_grad_()
        model(x).square().sum().backward()
        model.x_gradient = x.grad
        model.requires_grad_(True)
        model(images).square().sum().backward()
    assert torch.equal(frozen.x_gradient, network.x_gradient)
    for (name, parameter), twin in zip(network.named_parameters(), frozen.parameters(), strict=True):
        assert torch.equal(parameter.grad, twin.grad), name


def test_hooks_see_what_they_see_in_the_network(network, frozen, images):
    seen: dict[nn.Module, list[Tensor]] = {network: [], frozen: []}
    for model in seen:
        for name in ("stem_norm", "depthwise"):
            model.get_submodule(name).register_forward_hook(
                lambda module, inputs, output, model=model: seen[model].extend([inputs[0].clone(), output.clone()])
            )
    with torch.inference_mode():
        network(images), frozen(images)
    assert len(seen[frozen]) == 4
    for theirs, ours in zip(seen[network], seen[frozen], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_statistics_are_measured_as_in_the_network(network, frozen, images):
    for model in (network, frozen):
        average_batch_norm_(model, [images])
    for key, value in network.state_dict().items():
        torch.testing.assert_close(frozen.state_dict()[key], value, msg=key)


def scale_weight(model):
    model.stem.weight.mul_(1.5)


def scale_step(model):
    model.head.activation_quantizer.step.mul_(2)


def shift_statistics(model):
    model.stem_norm.running_mean.add_(0.5)
    model.act_norm.weight.neg_()


def load_zeros(model):
    model.load_state_dict({**model.state_dict(), "plain.weight": torch.zeros_like(model.plain.weight)})


def new_parameter(model):
    model.stem.weight = nn.Parameter(model.stem.weight.flip(0), requires_grad=False)


def into_float(model):
    model.depthwise.set_bits_(None)


def write_through_data(model):
    model.stem.weight.data.mul_(1.5)
    model.act_norm.weight.data.neg_()
    model.eval()


def write_through_numpy_in_training(model):
    model.train()
    model.plain.weight.numpy()[:] *= -1
    model.plain_norm.running_mean.numpy()[:] += 0.5
    model.eval()


CHANGES = [
    *(write_through_data, write_through_numpy_in_training),
    *(scale_weight, scale_step, shift_statistics, load_zeros, new_parameter, into_float),
    lambda model: model.double(),
    lambda model: model.to(torch.bfloat16),
    lambda model: model.to(memory_format=torch.channels_last),
]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_followed(network, frozen, images, change):
    with torch.inference_mode():
        frozen(images)
    for model in (network, frozen):
        with torch.no_grad():
            change(model)
    images = images.to(network.head.weight.dtype)
    with torch.inference_mode():
        if images.dtype == torch.bfloat16:  # three digits: on most grids some value falls to another integer
            torch.testing.assert_close(frozen(images), network(images), rtol=0.3, atol=0.3)
        else:
            check_close(frozen(images), network(images))


class Scaled(nn.Module):
    """A module around a layer that changes what it gives."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) * 2


def another_convolution(model):
    torch.manual_seed(3)
    model.stem = nn.Conv2d(3, 8, 3)


def a_module_around_a_convolution(model):
    model.stem = Scaled(model.stem)


def another_normalization(model):
    model.stem_norm = nn.BatchNorm2d(8).eval()


def a_normalization_over_all_processes(model):
    nn.SyncBatchNorm.convert_sync_batchnorm(model)


def no_normalization(model):
    model.act_norm = nn.Identity()


REPLACED = [
    another_convolution,
    a_module_around_a_convolution,
    another_normalization,
    a_normalization_over_all_processes,
    no_normalization,
]


@pytest.mark.parametrize("replace", REPLACED)
def test_a_part_in_the_place_of_a_folded_one_is_normalized_once(network, frozen, images, replace):
    with torch.inference_mode():
        frozen(images)
    for model in (network, frozen):
        replace(model)
    with torch.inference_mode():
        check_close(frozen(images), network(images))


def test_a_folded_normalization_normalizes_what_its_convolution_did_not_give(network, frozen, images):
    with torch.inference_mode():
        stem = nn.Conv2d(3, 8, 3)
        expected = network.stem_norm(stem(images))
        torch.testing.assert_close(nn.Sequential(stem, frozen.stem_norm)(images), expected)
        before = frozen.stem(images)
        assert frozen.stem_norm(before) is before


def test_a_copy_has_values_of_its_own(frozen, images):
    twin = copy.deepcopy(frozen)
    with torch.inference_mode():
        before = frozen(images)
        twin.stem.weight.data.zero_()
        assert not torch.equal(twin(images), before)
        assert torch.equal(frozen(images), before)
    assert twin.stem_norm.convolution == (twin.stem,)


def test_what_inference_mode_made_is_computed_anew_at_each_call(network, images):
    with torch.inference_mode():
        twin = copy.deepcopy(network)
        freeze_(twin, SHAPE)
        check_close(twin(images), network(images))
        for model in (twin, network):
            model.stem.weight.mul_(0.5)
        check_close(twin(images), network(images))


def test_integers_take_the_place_of_frozen_layers(network, frozen, images):
    run_in_integers_(frozen)
    assert isinstance(frozen.stem, IntegerConv2d) == has_vnni()  # its weights have 8 bits
    assert type(frozen.stem_norm) is nn.BatchNorm2d
    with torch.inference_mode():
        check_close(frozen(images), network(images))


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_loaded_network_is_frozen_and_that_of_its_checkpoint(tiny, name):
    model = load(tiny.name, policy=tiny.policies[name])
    checkpoint, _ = load_checkpoint(open_local_folder(tiny.folder / "policies" / name, "checkpoint"))
    folded = [module for module in model.modules() if isinstance(module, FoldedBatchNorm2d | FoldedBatchNormAct2d)]
    norms = [module for module in checkpoint.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(folded) == len(norms) > 5
    with torch.inference_mode():
        check_close(model(tiny.images), checkpoint(tiny.images))
        assert torch.equal(thaw_(model)(tiny.images), checkpoint(tiny.images))


@pytest.fixture
def graphs():
    """The graphs that torch.compile has made with a backend that runs them as they are."""
    torch.compiler.reset()
    made: list[torch.fx.GraphModule] = []
    yield made
    torch.compiler.reset()


def compiled(model: nn.Module, graphs: list) -> nn.Module:
    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    return torch.compile(model, backend=backend, fullgraph=True)


def test_a_frozen_network_compiles_to_one_graph_and_only_once(graphs, images):
    model = quantized(Net())
    freeze_(model, SHAPE)
    fast = compiled(model, graphs)
    with torch.inference_mode():
        for batch in images.split(4):
            assert torch.equal(fast(batch), model(batch))
    assert len(graphs) == 1


@pytest.mark.parametrize("replace", [another_convolution, another_normalization])
def test_a_part_that_was_replaced_before_it_is_compiled_is_normalized_once(graphs, images, replace):
    network = quantized(Net())
    model = copy.deepcopy(network)
    freeze_(model, SHAPE)
    for twin in (network, model):
        replace(twin)
    with torch.inference_mode():
        check_close(compiled(model, graphs)(images), network(images))
        check_close(model(images), network(images))


def test_what_was_moved_before_it_is_compiled_is_compiled_as_moved(graphs, images):
    model = quantized(Net())
    freeze_(model, SHAPE)
    with torch.inference_mode():
        expected = model(images).double()
        torch.testing.assert_close(compiled(model.double(), graphs)(images.double()), expected, rtol=1e-3, atol=0.1)


@pytest.mark.slow
def test_a_loaded_network_compiles_to_one_graph_and_only_once(tiny, graphs):
    model = load(tiny.name, bitops="w3a3")
    fast = compiled(model, graphs)
    with torch.inference_mode():
        for batch in tiny.images.split(2):
            assert torch.equal(fast(batch), model(batch))
        assert len(graphs) == 1
        assert torch.equal(fast(tiny.images), model(tiny.images))
    assert len(graphs) == 2, "another number of images is another graph, for any number"


class SamePadded(nn.Module):
    """The first layers of a network of TensorFlow, as timm has them: odd sizes and strides of two need padding."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv2dSame(3, 8, 3, stride=2, bias=False)
        self.stem_norm = BatchNormAct2d(8)
        self.depthwise = Conv2dSame(8, 8, 5, stride=2, groups=8, bias=True)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.depthwise(self.stem_norm(self.stem(x)))).relu().mean((2, 3)))


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_convolution_that_pads_by_itself_is_frozen_with_its_normalization(images, per_channel):
    network = quantized(SamePadded(), per_channel=per_channel)
    twin = copy.deepcopy(network)
    freeze_(twin, SHAPE)
    assert [type(twin.get_submodule(name)) for name in ("stem", "depthwise")] == [FrozenConv2dSame] * 2
    assert (type(twin.stem_norm), type(twin.norm)) == (FoldedBatchNormAct2d, FoldedBatchNorm2d)
    for side in (0, 1):  # an even and an odd one
        cropped = images[..., side:, side:]
        check_close(twin(cropped), network(cropped))
    assert torch.equal(thaw_(twin)(images), network(images))


class Shifted(nn.Conv2d):
    """A convolution that does more: a normalization cannot be in its weight."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


def test_a_convolution_of_another_class_is_left_as_it_is_with_its_normalization(images):
    network = quantized(nn.Sequential(Shifted(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(400, 5)))
    twin = copy.deepcopy(network)
    freeze_(twin, SHAPE)
    assert (type(twin[0]), type(twin[1])) == (type(network[0]), nn.BatchNorm2d)
    check_close(twin(images), network(images))


def test_a_replica_on_another_device_computes_as_the_network_and_leaves_the_frozen_one_so(
    network, frozen, images, replica_of
):
    with torch.no_grad():
        before = frozen(images)
        assert torch.equal(replica_of(frozen)(images), network(images))
        assert torch.equal(frozen(images), before)
        run_in_integers_(frozen)
        assert torch.equal(replica_of(frozen)(images), network(images))
