"""The rounding error of weights: computed by hand, and against a search of the nearest of all levels."""

from __future__ import annotations

import numpy as np
import pytest

from limpq_hub.plan.sensitivity import by_weight_errors, weight_errors

STEPS = {2: 0.3, 3: 0.2, 4: 0.1}


def nearest_level_error(weight, bits):
    """Return the error of moving each weight to the nearest of all levels, every level tried, in float64."""
    values = np.asarray(weight, dtype=np.float64).ravel()
    reach = max(abs(values.mean() - 3 * values.std()), abs(values.mean() + 3 * values.std()))
    levels = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) * reach / 2 ** (bits - 1)
    return (np.abs(values[:, None] - levels).min(1) ** 2).sum() / (values**2).sum()


def errors_of(network, weight, steps=None):
    indicators = network({"a": steps or STEPS})
    return weight_errors({"a": np.asarray(weight)}, indicators)["a"]


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        # Mean 0, standard deviation 1, so the grid reaches 3: steps 3/2, 3/4, 3/8. Squared weights add up to 2.
        ([-1.0, 1.0], {2: 2 * 0.5**2 / 2, 3: 2 * 0.25**2 / 2, 4: 2 * 0.125**2 / 2}),
        # Mean 2, standard deviation 1, reach 5: 1 -> 0 and 3 -> 2.5; 1 -> 1.25 and 3 -> 2.5; 1 -> 1.25 and 3 -> 3.125.
        ([1.0, 3.0], {2: (1 + 0.25) / 10, 3: (0.0625 + 0.25) / 10, 4: (0.0625 + 0.015625) / 10}),
        ([-1.0, -3.0], {2: (1 + 0.25) / 10, 3: (0.0625 + 0.25) / 10, 4: (0.0625 + 0.015625) / 10}),
        # All equal: the reach is the weight itself, which is one level above the highest.
        ([4.0, 4.0, 4.0], {2: (4 - 2) ** 2 / 16, 3: (4 - 3) ** 2 / 16, 4: (4 - 3.5) ** 2 / 16}),
    ],
)
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_the_error_is_the_one_computed_by_hand(network, weight, expected, kind):
    assert errors_of(network, np.array(weight, dtype=kind)) == expected


@pytest.mark.parametrize("seed", range(20))
def test_every_weight_goes_to_the_nearest_level(network, seed):
    rng = np.random.default_rng(seed)
    # Heavy tails, so that some weights lie beyond the highest level; and a mean that is not 0.
    weight = rng.standard_t(2.5, size=(8, 4, 3, 3)) * rng.uniform(0.01, 10) + rng.normal()
    errors = errors_of(network, weight, {bits: 1 / bits for bits in range(2, 9)})
    assert set(errors) == set(range(2, 9))
    for bits, error in errors.items():
        # The same sum in another order of float64 operations.
        assert error == pytest.approx(nearest_level_error(weight, bits), rel=1e-9)


def test_single_precision_gives_the_same_to_what_it_can_add_up(network):
    weight = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    for bits, error in errors_of(network, weight).items():
        # Five thousand summands of 24-bit precision.
        assert error == pytest.approx(nearest_level_error(weight, bits), rel=1e-4)


def test_neither_scale_nor_sign_nor_shape_matter(network):
    weight = np.random.default_rng(1).normal(size=(6, 5))
    errors = errors_of(network, weight)
    assert errors_of(network, weight * 2.0**40) == errors
    assert errors_of(network, weight.ravel()) == pytest.approx(errors, rel=1e-12)
    # Levels reach one step further below 0 than above it: symmetric weights alone keep their error when turned round.
    symmetric = np.concatenate([weight, -weight])
    assert errors_of(network, -symmetric) == pytest.approx(errors_of(network, symmetric), rel=1e-12)


def test_more_bits_never_round_worse(network):
    # Each grid holds the levels of the one with a bit less.
    rng = np.random.default_rng(2)
    for _ in range(20):
        errors = errors_of(network, rng.standard_cauchy(size=50), {bits: 1 / bits for bits in range(2, 9)})
        assert [errors[bits] for bits in range(2, 9)] == sorted(errors.values(), reverse=True)


def test_each_searched_layer_has_its_own_bit_widths_and_others_have_no_error(network):
    indicators = network({"a": {2: 0.1}, "b": {8: 0.1, 3: 0.2}}, fixed={"head": (8, 8)})
    errors = weight_errors({"head": np.ones(1), "b": np.arange(4.0), "a": np.arange(3.0)}, indicators)
    assert {name: set(of_layer) for name, of_layer in errors.items()} == {"a": {2}, "b": {3, 8}}


def test_weights_of_zero_lose_all_at_every_bit_width(network):
    assert errors_of(network, np.zeros((3, 3), dtype=np.float32)) == {2: 1.0, 3: 1.0, 4: 1.0}


def test_weights_that_are_levels_lose_next_to_nothing_but_are_still_a_valid_indicator(network):
    indicators = network({"a": STEPS})
    errors = weight_errors({"a": np.full(9, -0.5)}, indicators)
    assert all(0 < error < 1e-300 for error in errors["a"].values())
    by_weight_errors(indicators, errors, 4)


def test_the_errors_take_the_place_of_the_weight_steps_and_activations_have_no_choice(network):
    indicators = network({"a": STEPS, "b": STEPS}, fixed={"head": (8, 8)}, alpha=3.0)
    errors = {"a": {2: 0.5, 3: 0.25, 4: 0.125}, "b": {2: 0.9, 3: 0.8, 4: 0.7}}
    replaced = by_weight_errors(indicators, errors, 3)
    assert replaced.weight_steps == errors
    assert replaced.activation_steps == {"a": {3: 0.2}, "b": {3: 0.2}}
    assert replaced.alpha == 1.0
    assert (replaced.costs, replaced.model, replaced.input_size) == (indicators.costs, "toynet", 32)
