"""The loop: the learning rate of each step, averages, the step sizes' own optimizer, accumulation, memory, resume."""

from __future__ import annotations

import json
import math

import pytest
import torch
from accelerate import Accelerator
from number_runs import OneWeight, fit_to_numbers, number_loader, number_settings, slope_one
from script_runs import journal_steps
from torch import nn

from limpq_hub.errors import DataError
from limpq_hub.train.data.epoch_sampler import EpochSampler
from limpq_hub.train.loop import fit as _fit
from limpq_hub.train.measure.evaluate import evaluate

ONES = torch.ones(8, 1)


def cosine(step: int, steps: int, peak: float) -> float:
    """Return the rate of a step by the formula of SGDR with one cycle down to 1e-5."""
    return 1e-5 + (peak - 1e-5) / 2 * (1 + math.cos(math.pi * step / steps))


def weights_after_each_step(steps: int, peak: float) -> list[float]:
    """Return the weight of `OneWeight` under plain SGD with gradient 1."""
    return [-sum(cosine(step, steps, peak) for step in range(done)) for done in range(1, steps + 1)]


def test_plain_descent_on_one_weight_is_the_sum_of_the_rates(tmp_path):
    model = OneWeight()
    fit_to_numbers(number_settings(tmp_path / "out", "--batch-size", "2"), ONES, model, slope_one)
    assert model.weight.item() == pytest.approx(weights_after_each_step(4, 0.1)[-1], rel=1e-5)


@pytest.mark.parametrize("decay", [0.9, 0.4])
def test_the_exported_weights_are_the_average_with_its_warm_up(tmp_path, decay):
    # The decay of ModelEmaV3 with warm-up: min(decay, 1 - updates before ** -2/3), from one update before on; the
    # first update copies.
    first, second, third = weights_after_each_step(3, 0.1)
    average = first
    for before, weight in ((2, second), (3, third)):
        kept = min(decay, 1 - before ** (-2 / 3))
        average = kept * average + (1 - kept) * weight
    model = OneWeight()
    settings = number_settings(tmp_path / "out", "--batch-size", "2", "--max-steps", "3", "--ema", str(decay))
    fit_to_numbers(settings, ONES, model, slope_one)
    assert model.weight.item() == pytest.approx(average, rel=1e-5)
    assert abs(average - third) > 1e-2


def noisy_loss(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return nn.functional.dropout(model(images), 0.5).square().mean()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))


class CutOffError(Exception):
    pass


@pytest.mark.parametrize("extra", [[], ["--ema", "0.8"], ["--optimizer", "adamw"], ["--gradient-accumulation", "2"]])
@pytest.mark.parametrize("cut_at", [1, 3, 4, 7])
def test_a_run_cut_off_at_any_step_ends_with_the_same_bits(tmp_path, extra, cut_at):
    rows = torch.randn(17, 3, generator=torch.Generator().manual_seed(1))
    words = ["--batch-size", "2", "--max-steps", "10", "--epochs", "5", "--save-interval", "3"]
    words += extra if "adamw" in extra else [*extra, "--momentum", "0.9"]

    def cut(position):
        if position.step == cut_at:
            raise CutOffError

    whole, lost, resumed = network(), network(), network()
    fit_to_numbers(number_settings(tmp_path / "whole", *words), rows, whole, noisy_loss)
    with pytest.raises(CutOffError):
        fit_to_numbers(number_settings(tmp_path / "cut", *words), rows, lost, noisy_loss, each=cut)
    torch.manual_seed(99)
    fit_to_numbers(number_settings(tmp_path / "cut", *words, "--resume"), rows, resumed, noisy_loss)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("whole", "cut")]
    assert lines[0] == lines[1]
    assert journal_steps(tmp_path / "cut") == list(range(1, 11))


def test_frozen_batch_normalization_keeps_its_statistics_and_learns_its_factors(tmp_path):
    rows = torch.randn(16, 3, generator=torch.Generator().manual_seed(1)) * 3 + 1
    model = network().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    words = ["--batch-size", "4", "--freeze-batch-norm"]
    fit_to_numbers(number_settings(tmp_path / "out", *words), rows, model, lambda model, x: model(x).square().mean())
    after = model.state_dict()
    kept = {name for name, value in before.items() if torch.equal(after[name], value)}
    assert kept == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_resuming_a_finished_run_trains_no_step_and_gives_the_same_weights(tmp_path):
    words = ["--batch-size", "2", "--ema", "0.5"]
    done, again = OneWeight(), OneWeight()
    seconds = fit_to_numbers(number_settings(tmp_path / "out", *words), ONES, done, slope_one)

    def never(position):
        raise AssertionError(f"step {position.step}")

    settings = number_settings(tmp_path / "out", *words, "--resume")
    assert fit_to_numbers(settings, ONES, again, slope_one, each=never) == seconds
    assert torch.equal(again.weight, done.weight)


def test_the_seconds_of_all_parts_of_a_run_are_added(tmp_path):
    words = ["--batch-size", "2", "--save-interval", "1"]

    def cut(position):
        if position.step == 2:
            raise CutOffError

    with pytest.raises(CutOffError):
        fit_to_numbers(number_settings(tmp_path / "out", *words), ONES, OneWeight(), slope_one, each=cut)
    config = next((tmp_path / "out/states").glob("step-*/config.json"))
    before = json.loads(config.read_text())["seconds"]
    settings = number_settings(tmp_path / "out", *words, "--resume")
    assert fit_to_numbers(settings, ONES, OneWeight(), slope_one) > before > 0


class OneLayer(nn.Module):
    """A weight [1] at 0, and a step size [] at 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.quantizer = nn.Module()
        self.quantizer.step = nn.Parameter(torch.ones(()))


def slopes(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return a loss with gradient 0.25 for the weight and 0.5 for the step size."""
    return (0.25 * model.weight * images).mean() + 0.5 * model.quantizer.step


def test_adam_moves_the_step_sizes_at_their_own_rate_and_descent_the_rest(tmp_path):
    words = ["--batch-size", "2", "--step-optimizer", "adam", "--step-lr", "0.01"]
    model = OneLayer()
    fit_to_numbers(number_settings(tmp_path / "out", *words), ONES, model, slopes)
    # With a gradient that stays the same, Adam moves by its rate whatever the gradient is.
    expected = 1 - sum(cosine(step, 4, 0.01) for step in range(4))
    assert model.quantizer.step.item() == pytest.approx(expected, rel=1e-5)
    assert model.weight.item() == pytest.approx(0.25 * weights_after_each_step(4, 0.1)[-1], rel=1e-5)


def test_without_an_optimizer_of_their_own_the_step_sizes_follow_the_rest(tmp_path):
    model = OneLayer()
    fit_to_numbers(number_settings(tmp_path / "out", "--batch-size", "2"), ONES, model, slopes)
    assert model.quantizer.step.item() == pytest.approx(1 + 0.5 * weights_after_each_step(4, 0.1)[-1], rel=1e-5)


def test_the_rate_of_the_step_sizes_is_that_of_the_rest_if_not_given(tmp_path):
    model = OneLayer()
    settings = number_settings(tmp_path / "out", "--batch-size", "2", "--step-optimizer", "adam")
    fit_to_numbers(settings, ONES, model, slopes)
    assert model.quantizer.step.item() == pytest.approx(1 + weights_after_each_step(4, 0.1)[-1], rel=1e-5)


def test_a_run_with_two_optimizers_cut_off_ends_with_the_same_bits(tmp_path):
    words = ["--batch-size", "2", "--step-optimizer", "adam", "--save-interval", "1", "--momentum", "0.9"]

    def cut(position):
        if position.step == 3:
            raise CutOffError

    whole, resumed = OneLayer(), OneLayer()
    rows = torch.randn(8, 1, generator=torch.Generator().manual_seed(0))

    def loss_of(model, images):
        return (model.weight * images).mean() + (model.quantizer.step * images).square().mean()

    fit_to_numbers(number_settings(tmp_path / "whole", *words), rows, whole, loss_of)
    with pytest.raises(CutOffError):
        fit_to_numbers(number_settings(tmp_path / "cut", *words), rows, OneLayer(), loss_of, each=cut)
    fit_to_numbers(number_settings(tmp_path / "cut", *words, "--resume"), rows, resumed, loss_of)
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed.quantizer.step, whole.quantizer.step)


def test_gradients_of_accumulated_batches_are_their_average(tmp_path):
    rows = torch.randn(16, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    words = ["--float64", "--lr", "0.1", "--clip-value", "100"]

    def loss_of(model, images):
        return (model(images) - 1).pow(2).mean()

    def linear():
        torch.manual_seed(0)
        return nn.Linear(3, 2, dtype=torch.float64)

    accumulated, whole = linear(), linear()
    settings = number_settings(tmp_path / "two", *words, "--batch-size", "4", "--gradient-accumulation", "2")
    fit_to_numbers(settings, rows, accumulated, loss_of)
    fit_to_numbers(number_settings(tmp_path / "one", *words, "--batch-size", "8"), rows, whole, loss_of)
    expected = linear()
    order = [of_epoch.picture for of_epoch in EpochSampler(16, seed=0)]
    for step in range(2):
        first, second = (order[8 * step + start : 8 * step + start + 4] for start in (0, 4))
        parameters = list(expected.parameters())
        gradients = [torch.autograd.grad(loss_of(expected, rows[part]), parameters) for part in (first, second)]
        with torch.no_grad():
            for parameter, one, other in zip(parameters, *gradients, strict=True):
                parameter -= cosine(step, 2, 0.1) * (one + other) / 2
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(accumulated.state_dict()[name], value, rtol=1e-12, atol=1e-15)
        torch.testing.assert_close(whole.state_dict()[name], value, rtol=1e-12, atol=1e-15)
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_gradients_are_clipped_entry_by_entry(tmp_path):
    model = OneWeight()
    settings = number_settings(tmp_path / "out", "--batch-size", "2", "--max-steps", "1", "--clip-value", "0.25")
    fit_to_numbers(settings, ONES, model, slope_one)
    assert model.weight.item() == pytest.approx(-0.025)


def test_what_the_method_remembers_is_there_again_after_a_resume(tmp_path):
    words = ["--batch-size", "2", "--save-interval", "1"]
    seen: list[dict[str, object]] = []

    def remember_in(memory, cut_at=None):
        def each(position):
            if position.step == cut_at:
                raise CutOffError
            seen.append(dict(memory))
            memory["steps"] = [*memory.get("steps", []), position.step]

        return each

    memory: dict[str, object] = {}
    settings = number_settings(tmp_path / "out", *words)
    with pytest.raises(CutOffError):
        fit_to_numbers(settings, ONES, OneWeight(), slope_one, memory=memory, each=remember_in(memory, 2))
    memory = {}
    settings = number_settings(tmp_path / "out", *words, "--resume")
    fit_to_numbers(settings, ONES, OneWeight(), slope_one, memory=memory, each=remember_in(memory))
    assert seen == [{}, {"steps": [0]}, {"steps": [0, 1]}, {"steps": [0, 1, 2]}]


def test_a_resumed_run_says_where_it_goes_on_and_one_that_finds_nothing_says_that(tmp_path, capsys):
    for steps, said in (("1", f"nothing to resume in {tmp_path}/out: it starts anew"), ("2", "resumed at step 1 of 2")):
        words = ["--batch-size", "2", "--lr-schedule", "constant", "--max-steps", steps, "--resume"]
        fit_to_numbers(number_settings(tmp_path / "out", *words), ONES, OneWeight(), slope_one)
        assert said in capsys.readouterr().out.splitlines()


def test_what_will_be_trained_and_by_which_recipe_is_said_before_the_first_step(tmp_path, capsys):
    (tmp_path / "slow.yaml").write_text("pretrain: {lr: 0.001, epochs: 2}")
    words = ["--batch-size", "2", "--recipe", f"{tmp_path}/slow.yaml"]
    fit_to_numbers(number_settings(tmp_path / "out", *words), ONES, OneWeight(), slope_one)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("training")]
    steps = len(ONES) // 2 * 2
    assert line.startswith(f"training by recipe {tmp_path}/slow.yaml: {steps} steps of 2 images, 2 epochs; rate 0.001")


def test_an_epoch_shows_every_full_step_and_the_positions_count_them(tmp_path):
    positions = []
    settings = number_settings(
        tmp_path / "out", "--batch-size", "2", "--gradient-accumulation", "2", "--epochs", "2", "--max-steps", "3"
    )
    fit_to_numbers(settings, ONES, OneWeight(), slope_one, each=positions.append)
    assert [(position.step, position.epoch, position.share) for position in positions] == [
        (0, 0, 0.5),
        (0, 0, 0.5),
        (1, 0, 0.5),
        (1, 0, 0.5),
        (2, 1, 0.5),
        (2, 1, 0.5),
    ]


def test_images_that_do_not_fill_a_step_are_refused(tmp_path):
    settings = number_settings(tmp_path / "out", "--batch-size", "4", "--gradient-accumulation", "3")
    smaller = "a smaller --batch-size, or --gradient-accumulation than 3"
    with pytest.raises(DataError, match=f"^8 training images do not fill one step of 12; use {smaller}$"):
        fit_to_numbers(settings, ONES, OneWeight(), slope_one)


def test_a_start_that_is_refused_late_has_not_begun(tmp_path, monkeypatch):
    def refused(*arguments):
        raise ValueError("no such optimizer")

    settings = number_settings(tmp_path / "out", "--batch-size", "4")
    with monkeypatch.context() as patched:
        patched.setattr(_fit, "optimizers_of", refused)
        with pytest.raises(ValueError, match="no such optimizer"):
            fit_to_numbers(settings, ONES, OneWeight(), slope_one)
    assert not (tmp_path / "out").exists()
    fit_to_numbers(settings, ONES, OneWeight(), slope_one)


def test_a_validation_sees_a_copy_of_the_average_and_changes_nothing(tmp_path):
    words = ["--batch-size", "2", "--epochs", "3", "--ema", "0.9"]
    plain, validated, seen = OneWeight(), OneWeight(), []

    def validate(copied):
        seen.append(copied.weight.item())
        with torch.no_grad():
            copied.weight.fill_(100)
        torch.manual_seed(1)
        return {"top1": 50.0}

    fit_to_numbers(number_settings(tmp_path / "plain", *words), ONES, plain, slope_one)
    settings = number_settings(tmp_path / "often", *words, "--validate-epochs", "1")
    fit_to_numbers(settings, ONES, validated, slope_one, validate=validate)
    assert torch.equal(plain.weight, validated.weight)
    weights = weights_after_each_step(12, 0.1)
    average, averages = 0.0, []
    for before, weight in enumerate(weights):
        kept = min(0.9, 1 - (1 + before) ** (-2 / 3)) if before else 0.0
        average = kept * average + (1 - kept) * weight
        averages.append(average)
    assert seen == pytest.approx([averages[3], averages[7]], rel=1e-5)
    records = map(json.loads, (tmp_path / "often/metrics.jsonl").read_text().splitlines())
    noted = [record for record in records if "validation" in record]
    assert noted == [{"step": step, "epochs": step // 4, "validation": {"top1": 50.0}} for step in (4, 8)]


def test_a_validation_that_was_cut_off_is_done_by_the_resumed_run(tmp_path):
    words = ["--batch-size", "2", "--epochs", "3", "--save-interval", "4", "--validate-epochs", "1"]

    def cut(copied):
        raise CutOffError

    with pytest.raises(CutOffError):
        fit_to_numbers(number_settings(tmp_path / "out", *words), ONES, OneWeight(), slope_one, validate=cut)
    settings = number_settings(tmp_path / "out", *words, "--resume")
    fit_to_numbers(settings, ONES, OneWeight(), slope_one, validate=lambda copied: {"top1": 50.0})
    records = map(json.loads, (tmp_path / "out/metrics.jsonl").read_text().splitlines())
    assert [record["step"] for record in records if "validation" in record] == [4, 8]


def test_a_validation_leaves_the_precision_of_training_as_it_was(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    model, images = nn.Linear(3, 4).eval(), torch.zeros(2, 3)
    model.num_classes = 4
    evaluate(Accelerator(cpu=True), model, number_loader(images, 2))
    assert torch.backends.cudnn.allow_tf32
