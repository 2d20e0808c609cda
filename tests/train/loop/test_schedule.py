"""What each optimizer holds and decays, and the learning rate step by step."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from limpq_hub.quant.convert import to_supernet
from limpq_hub.train.loop.batches import RunLength
from limpq_hub.train.loop.schedule import learning_rate_of, optimizers_of, training_description
from limpq_hub.train.training_settings import ScheduleSettings

SCHEDULE = ScheduleSettings(
    epochs=1,
    max_steps=None,
    gradient_accumulation=1,
    optimizer="momentum",
    lr=0.1,
    warmup_epochs=0.0,
    momentum=0.0,
    weight_decay=0.5,
    clip_value=1.0,
    ema=None,
    step_optimizer=None,
    step_lr=None,
)


@pytest.fixture(params=[False, True], ids=["a step a layer", "a step a channel"])
def supernet(request) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 3)]
    return to_supernet(nn.Sequential(*layers), (4, 2), example_input=torch.randn(2, 3, 8, 8), per_channel=request.param)


def moved_by_zero_gradients(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> set[str]:
    """Names of the parameters that an optimizer step changes although every gradient is zero."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


@pytest.mark.parametrize("apart", [None, "adamw", "momentum"])
def test_only_weights_of_layers_decay(supernet, apart):
    optimizers = optimizers_of(supernet, replace(SCHEDULE, step_optimizer=apart))
    assert moved_by_zero_gradients(supernet, optimizers) == {"0.weight", "1.weight", "4.weight"}


@pytest.mark.parametrize("apart", [None, "adamw"])
def test_every_parameter_is_in_one_optimizer_once(supernet, apart):
    optimizers = optimizers_of(supernet, replace(SCHEDULE, step_optimizer=apart))
    held = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in supernet.parameters())


def test_without_being_asked_there_is_one_optimizer(supernet):
    (optimizer,) = optimizers_of(supernet, SCHEDULE)
    assert type(optimizer) is torch.optim.SGD


@pytest.mark.parametrize(("step_lr", "expected"), [(None, 0.1), (0.003, 0.003)])
def test_step_sizes_have_an_optimizer_and_a_rate_of_their_own_when_asked(supernet, step_lr, expected):
    first, second = optimizers_of(supernet, replace(SCHEDULE, step_optimizer="adamw", step_lr=step_lr))
    assert type(first) is torch.optim.SGD
    assert type(second) is torch.optim.AdamW
    held = {id(parameter) for group in second.param_groups for parameter in group["params"]}
    names = {name for name, parameter in supernet.named_parameters() if id(parameter) in held}
    kinds = ("weight_quantizer", "activation_quantizer")
    assert names == {f"{layer}.{kind}.step" for layer in (0, 1, 4) for kind in kinds}
    assert {group["lr"] for group in second.param_groups} == {expected}
    assert {group["lr"] for group in first.param_groups} == {0.1}


def test_momentum_is_plain_and_not_nesterovs(supernet):
    (optimizer,) = optimizers_of(supernet, replace(SCHEDULE, momentum=0.9))
    assert {(group["momentum"], group["nesterov"]) for group in optimizer.param_groups} == {(0.9, False)}


def rates(lr: float, steps: int, steps_per_epoch: int, warmup_epochs: float, *lr_schedule: str) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = learning_rate_of(optimizer, steps, steps_per_epoch, warmup_epochs, *lr_schedule)
    found = []
    for step in range(steps):
        schedule.step_update(step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_rate_follows_a_cosine_from_the_peak_to_a_hundred_thousandth():
    found = rates(0.1, 50, 10, 0.0)
    expected = [1e-5 + (0.1 - 1e-5) * (1 + math.cos(math.pi * step / 50)) / 2 for step in range(50)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_rate_rises_linearly_in_the_warm_up_and_the_cosine_follows():
    found = rates(0.1, 50, 10, 1.5)
    expected = [1e-5 + (0.1 - 1e-5) * step / 15 for step in range(15)]
    expected += [1e-5 + (0.1 - 1e-5) * (1 + math.cos(math.pi * step / 35)) / 2 for step in range(35)]
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_constant_rate_rises_in_the_warm_up_and_stays_at_the_peak_however_long_the_run_is():
    found = rates(0.1, 50, 10, 1.5, "constant")
    assert found[:15] == pytest.approx([1e-5 + (0.1 - 1e-5) * step / 15 for step in range(15)], rel=1e-9)
    assert found[15:] == [0.1] * 35
    assert rates(0.1, 20, 10, 1.5, "constant") == found[:20]


@pytest.mark.parametrize(("steps", "warmup_epochs", "last"), [(1, 0.0, 0.1), (2, 0.1, 0.1), (1, 0.1, 1e-5)])
def test_a_run_without_room_for_a_cosine_ends_at_the_peak_or_in_the_warm_up_and_timm_warns_of_nothing(
    steps, warmup_epochs, last, caplog
):
    assert rates(0.1, steps, 10, warmup_epochs)[-1] == last
    assert not caplog.records


def test_a_rate_below_the_smallest_stays_as_it_is():
    assert rates(1e-6, 20, 10, 0.5) == pytest.approx([1e-6] * 20, rel=1e-12)


def test_a_run_shorter_than_its_warm_up_only_rises():
    found = rates(0.1, 5, 10, 1.0)
    assert found == sorted(found)
    assert found[-1] < 0.05


def test_both_optimizers_follow_their_own_peak(supernet):
    optimizers = optimizers_of(supernet, replace(SCHEDULE, step_optimizer="adamw", step_lr=0.02))
    for optimizer, peak in zip(optimizers, (0.1, 0.02), strict=True):
        learning_rate_of(optimizer, 10, 10, 0.0).step_update(5)
        expected = 1e-5 + (peak - 1e-5) / 2
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
            [expected] * len(optimizer.param_groups)
        )


def test_how_long_and_how_fast_a_run_trains_is_one_line():
    set_them = "; --epochs, --max-steps, --lr and --warmup-epochs set them"
    assert training_description(RunLength(steps=250, steps_per_epoch=100, images_per_step=64), SCHEDULE) == (
        f"training: 250 steps of 64 images, 2.5 epochs; rate 0.1 after 0 epochs of warm-up{set_them}"
    )
    apart = replace(SCHEDULE, step_lr=0.001, warmup_epochs=1.5)
    assert training_description(RunLength(steps=3, steps_per_epoch=1, images_per_step=8), apart, "slow") == (
        "training by recipe slow: 3 steps of 8 images, 3 epochs; rate 0.1 (0.001 of the step sizes) after 1.5 "
        f"epochs of warm-up{set_them}"
    )
    long = replace(SCHEDULE, warmup_epochs=0.5)
    assert training_description(RunLength(steps=50, steps_per_epoch=100, images_per_step=8), long).endswith(
        f"{set_them}; the warm-up is longer, 50 steps: that rate is never reached"
    )
    assert training_description(RunLength(steps=51, steps_per_epoch=100, images_per_step=8), long).endswith(set_them)
