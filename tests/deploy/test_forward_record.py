"""Tests of the record of a forward pass: what it cannot follow is refused, and nothing else is."""

import re

import pytest
import torch
from torch import Tensor, nn

from limpq_hub.deploy.forward_record import record_forward, value_ranges
from limpq_hub.errors import UnsupportedLayerError

SHAPE = (4, 6, 6)


class Computes(nn.Module):
    """A convolution, what a test does behind it, and the mean of each channel."""

    def __init__(self, behind) -> None:
        super().__init__()
        self.conv, self.behind = nn.Conv2d(4, 4, 1), behind

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.conv(x)).mean((2, 3))


def writes_in_part(x):
    x[:, :2] = 0.0
    return x


def writes_through_a_view(x):
    x[:, :2].zero_()
    return x


def writes_what_a_view_is_of(x):
    first = x[:, :2]
    x.relu_()
    return first


def writes_into_a_constant(x):
    kept = torch.zeros(1, *SHAPE)
    kept[:, :2] = x[:, :2]
    return kept


def adds_into_a_constant(x):
    return torch.ones(1, *SHAPE).add_(x)


def writes_into_the_view_of_a_constant(x):
    kept = torch.zeros(1, *SHAPE)
    kept.view(kept.shape).add_(x)
    return x + kept


def writes_many_at_once(x):
    torch._foreach_mul_([x], 2.0)
    return x


@pytest.mark.parametrize(
    "behind",
    [
        writes_in_part,
        writes_through_a_view,
        writes_what_a_view_is_of,
        writes_into_a_constant,
        adds_into_a_constant,
        writes_into_the_view_of_a_constant,
        writes_many_at_once,
    ],
)
def test_what_is_taken_after_it_was_written_over_unseen_is_refused(behind):
    with pytest.raises(UnsupportedLayerError, match="the network takes what was written over in part or under another"):
        record_forward(Computes(behind), SHAPE)


@pytest.mark.parametrize(
    ("behind", "name"),
    [
        (lambda x: x.chunk(2, dim=1)[0], "chunk"),
        (lambda x: torch.split(x, 1, dim=1)[1], "split"),
        (lambda x: x.unbind(1)[0][:, None], "unbind"),
        (lambda x: x.max(dim=1, keepdim=True).values, "max"),
    ],
)
def test_one_of_several_results_is_refused(behind, name):
    with pytest.raises(UnsupportedLayerError, match=f"the network takes one of several results of {name}, which"):
        record_forward(Computes(behind), SHAPE)


def test_a_layer_that_takes_what_cannot_be_followed_is_named():
    second = nn.Conv2d(2, 3, 1)
    network = Computes(lambda x: second(x.chunk(2, dim=1)[0]))
    network.second = second
    with pytest.raises(UnsupportedLayerError, match="^second takes one of several results of chunk"):
        record_forward(network, SHAPE)


@pytest.mark.parametrize(
    ("behind", "name"),
    [
        (lambda x: x * x.mean().item(), "mul"),
        (lambda x: x * float(x.mean()), "mul"),
        (lambda x: x + torch.tensor(x.tolist()), "add"),
        (lambda x: x + torch.from_numpy(x.numpy() * 2), "add"),
        (lambda x: x * torch.vmap(torch.sigmoid)(x), "mul"),
    ],
    ids=["item", "float", "tolist", "numpy", "vmap"],
)
def test_what_is_computed_from_the_image_where_no_call_tells_it_is_refused(behind, name):
    with pytest.raises(UnsupportedLayerError, match=f"^the network calls .*{name}.* by what differs from image to"):
        record_forward(Computes(behind), SHAPE)


def test_a_choice_between_two_results_is_refused():
    network, seen = Computes(lambda x: seen.append(float(x[0, 0, 0, 0])) or x), []
    record_forward(network, SHAPE)
    between = sum(seen) / len(seen)

    def chooses(x):
        first, second = x * 2.0, x * 3.0
        return first if float(x[0, 0, 0, 0]) > between else second

    network.behind = chooses
    with pytest.raises(UnsupportedLayerError, match="by what differs from image to image"):
        record_forward(network, SHAPE)


def test_a_constant_may_be_no_number_and_of_any_type():
    record = record_forward(Computes(lambda x: torch.nan_to_num(x, float("nan")) * torch.tensor(2)), SHAPE)
    assert [call.function.__name__ for call in record.calls] == ["conv2d", "nan_to_num", "mul", "mean"]


def test_it_is_recorded_in_inference_mode_too():
    network = Computes(adds_in_place)
    with torch.inference_mode():
        inside = record_forward(network, SHAPE)
        assert list(value_ranges(network, [torch.randn(2, *SHAPE)])) == [call.output.name for call in inside.calls]
    assert [call.output for call in inside.calls] == [call.output for call in record_forward(network, SHAPE).calls]


def test_an_operator_of_python_hides_no_refusal():
    def compares(x):
        y = x * 1.0
        y[:, :1] = 0.0
        return x * (y == 0) + x

    def adds(x):
        y = x * 1.0
        y[:, :1] = 0.0
        return x + y

    for behind in (compares, adds):
        with pytest.raises(UnsupportedLayerError, match="^the network takes what was written over"):
            record_forward(Computes(behind), SHAPE)


def test_a_constant_is_that_of_the_call_and_not_what_is_written_over_it_later():
    def decays(x):
        factor = torch.ones(4, 1, 1)
        for _ in range(3):
            x = x * factor
            factor *= -0.5
        return x

    record = record_forward(Computes(decays), SHAPE)
    factors = [call.arguments[1] for call in record.calls if "mul" in call.function.__name__]
    assert [float(factor[0]) for factor in factors] == [1.0, -0.5, 0.25]


def adds_in_place(x):
    shortcut = x
    x = torch.relu(x)
    x += shortcut
    return x.relu_()


def looks_at_shapes(x):
    whole = x.chunk(2, dim=1)
    assert whole[0].shape[1] == 2
    return x.view(x.size(0), *x.shape[1:]) if x.dim() == 4 and x.is_floating_point() else x


def writes_what_is_not_taken_again(x):
    again = x.clone()
    x[:, :2] = 0.0
    return again


def checks_numbers(x):
    assert torch.isfinite(x).all()
    return x * 2.0


def builds_a_constant(x):
    kept = torch.zeros(1, *SHAPE)
    kept[:, :2] = 1.0
    return x + kept


@pytest.mark.parametrize(
    ("behind", "called"),
    [
        (adds_in_place, ["relu", "add_", "relu_"]),
        (looks_at_shapes, ["view"]),
        (writes_what_is_not_taken_again, ["clone"]),
        (checks_numbers, ["isfinite", "mul"]),
        (builds_a_constant, ["add"]),
    ],
)
def test_what_can_be_followed_is_recorded(behind, called):
    record = record_forward(Computes(behind), SHAPE)
    names = [call.function.__name__ for call in record.calls if record.consumers(call.output)]
    assert names == ["conv2d", *called]
    assert record.calls[-1].output == record.logits


class OfEach(nn.Module):
    """Takes a dimension of what it returns away."""

    def __init__(self, without, classes: int = 1) -> None:
        super().__init__()
        self.conv, self.without = nn.Conv2d(3, classes, 3), without

    def forward(self, x: Tensor) -> Tensor:
        return self.without(self.conv(x).mean((2, 3)))


@pytest.mark.parametrize(
    ("without", "classes", "shape"),
    [
        (lambda x: x.view(-1), 1, "[1]"),
        (lambda x: x.mean(1), 1, "[1]"),
        (lambda x: x.squeeze(), 10, "[10]"),
        (lambda x: x.squeeze(), 1, "[]"),
    ],
    ids=["view", "mean", "squeeze of an image", "squeeze of an image and class"],
)
def test_a_result_without_a_dimension_of_images_or_classes_is_refused(without, classes, shape):
    message = f"OfEach returns a tensor of shape {shape} of one image; export one of [batch, classes], also of a single"
    with pytest.raises(UnsupportedLayerError, match=f"^{re.escape(message)} image or class: flatten"):
        record_forward(OfEach(without, classes).eval(), (3, 6, 6))
    assert record_forward(OfEach(lambda x: x).eval(), (3, 6, 6)).logits.shape == (1, 1)
