"""What a training says that failed: guessing, or a loss that did not fall; and that it is silent where all is well."""

import json

import pytest
import torch

from limpq_hub.train.measure.failure_signs import concerns, sameness

FALLING = [3.0 - 0.02 * step for step in range(100)]


def journal(folder, losses):
    lines = [{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)]
    # A validation between the steps is no step.
    lines.insert(2, {"step": 2, "validation": {"top1": 3.0}})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


# Of 10 classes guessing is right about 10 %; on 900 images one standard error is 1 point.
@pytest.mark.parametrize(("top1", "guessing"), [(9.0, True), (10.9, True), (12.9, True), (13.1, False), (60.0, False)])
def test_a_top1_within_three_standard_errors_of_guessing_is_told(tmp_path, top1, guessing):
    found = list(concerns(journal(tmp_path, FALLING), {"top1": top1, "images": 900}, 10))
    assert len(found) == guessing
    if guessing:
        told = "is no better than guessing (10.00 %): "
        if top1 > 11:
            told = "on 900 pictures cannot be told from guessing (10.00 %): measure it on more of them, or "
        assert found[0].startswith(
            f"warning: a top-1 of {top1:.2f} % of 10 classes {told}start again in another --output with a smaller --lr "
            "or more --warmup-epochs"
        )


def test_a_loss_that_did_not_fall_is_told_with_both_means(tmp_path):
    (line,) = concerns(journal(tmp_path, [2.0] * 10 + [1.0] * 80 + [2.5] * 10), {"top1": 60.0, "images": 900}, 10)
    assert line.startswith(
        "warning: the loss did not fall: 2.000 on average in the first 10 steps, 2.500 in the last 10: start again"
    )


@pytest.mark.parametrize("steps", [1, 10, 99])
def test_guessing_after_few_steps_is_answered_with_more_of_them_and_not_with_a_smaller_rate(tmp_path, steps):
    (line,) = concerns(journal(tmp_path, FALLING[:steps]), {"top1": 10.0, "images": 900}, 10)
    assert f"(10.00 %): so few steps ({steps}) cannot have learned much: train longer in another --output, with" in line
    assert "--max-steps" in line
    assert "--lr" not in line


def test_a_loss_that_did_not_fall_in_few_steps_is_answered_with_more_of_them(tmp_path):
    (line,) = concerns(journal(tmp_path, [1.0] * 50), {"top1": 60.0, "images": 900}, 10)
    assert line.startswith(
        "warning: the loss did not fall: 1.000 on average in the first 5 steps, 1.000 in the last 5: so"
    )
    assert "--lr" not in line


def test_of_few_steps_of_few_images_and_without_labels_nothing_is_said(tmp_path):
    assert not list(concerns(journal(tmp_path, [1.0] * 19), {"top1": 60.0, "images": 900}, 10))
    assert not list(concerns(journal(tmp_path, FALLING), {"agreement": 0.0, "kl": 9.0, "images": 900}, 10))
    # Of so few images no top-1 is certain.
    assert not list(concerns(journal(tmp_path, FALLING), {"top1": 0.0, "images": 2}, 4))
    assert not list(concerns(journal(tmp_path, FALLING), {"top1": 100.0, "images": 900}, 1))


def scores(*found, classes=10):
    """Return batches of scores whose largest are in these classes."""
    return list(torch.eye(classes)[list(found)].split(7))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([3] * 100, "class 3 of 10 in 100 of 100 pictures"),
        ([3] * 95 + [1, 2, 4, 5, 6], "class 3 of 10 in 95 of 100 pictures"),
        ([3] * 94 + [1, 2, 4, 5, 6, 7], None),
        ([3] * 19, None),
    ],
)
def test_a_float_network_that_finds_one_class_in_nearly_all_pictures_is_told(found, told):
    lines = list(sameness(scores(*found)))
    assert len(lines) == (told is not None)
    if told:
        assert lines[0].startswith(f"warning: the float network finds {told}: unless they show one thing, it is no ")


def test_a_network_of_one_class_and_none_at_all_have_nothing_to_be_told():
    assert not list(sameness(scores(*[0] * 50, classes=1)))
    assert not list(sameness([]))
