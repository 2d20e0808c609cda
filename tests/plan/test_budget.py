"""The grammar of budgets: what is accepted, exactly, and how the rest is refused."""

from __future__ import annotations

import argparse
import copy
import pickle
import random
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from limpq_hub.errors import BudgetError, LimpqError
from limpq_hub.plan.budget import Budget, limit_words, typed_limits
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.constraints.layer_table import LayerTableKind
from limpq_hub.plan.layer_bits import LayerBits
from limpq_hub.plan.quantities import enough_bitops, enough_size

TIMES = {"layer": {(2, 2): 0.5, (4, 4): 1}}


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("3G", 3_000_000_000),
        ("23.07G", 23_070_000_000),
        ("850M", 850_000_000),
        ("12K", 12_000),
        ("1.5T", 1_500_000_000_000),
        ("7", 7),
        ("0.001G", 1_000_000),
        ("1.0000000019K", 1000),
        ("003G", 3_000_000_000),
        (2.5e9, 2_500_000_000),
        (1.9, 1),
        (3_000_000_000, 3_000_000_000),
        (1, 1),
    ],
)
def test_bitops_are_parsed_exactly_and_rounded_down(value, parsed):
    assert Budget(bitops=value).bitops == parsed


@pytest.mark.parametrize(
    ("limit", "typed", "plain"),
    [
        ("bitops", "3 G", "3G"),
        ("bitops", "3g", "3G"),
        ("bitops", "3GBitOps", "3G"),
        ("bitops", "2.5 gbops", "2.5G"),
        ("bitops", "2.5e9 BitOps", "2.5e9"),
        ("size", "3 MB", "3MB"),
        ("size", "3mib", "3MiB"),
        ("size", "500 kb", "500kB"),
        ("activation_memory", "64 KIB", "64KiB"),
        ("compression", "12.2 X", "12.2x"),
    ],
)
def test_what_a_person_types_is_taken_where_it_can_mean_one_thing_and_it_is_said_which(limit, typed, plain):
    budget = Budget(**{limit: typed})
    assert budget == Budget(**{limit: plain})
    assert budget.readings == (f"{limit}={typed!r} was read as {plain}",)
    assert Budget(**{limit: plain}).readings == ()


@pytest.mark.parametrize(("typed", "bitops"), [("2.5e9", 2_500_000_000), ("25E8", 2_500_000_000), ("3e-3T", 3 * 10**9)])
def test_powers_of_ten_are_numbers_in_text_too(typed, bitops):
    assert Budget(bitops=typed).bitops == bitops
    assert Budget(bitops=typed).readings == ()


def test_bitops_of_all_9999_texts_below_ten_giga_are_exact():
    for thousandths in range(1, 10_000):
        text = f"{thousandths // 1000}.{thousandths % 1000:03d}G"
        assert Budget(bitops=text).bitops == thousandths * 10**6


@pytest.mark.parametrize("weight", range(2, 9))
def test_a_uniform_policy_is_a_bitops_budget(weight):
    assert Budget(bitops=f"w{weight}a4").bitops == LayerBits(weight, 4)


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("4.5MB", 4_500_000),
        ("4.5MiB", 4_718_592),
        ("1GB", 10**9),
        ("1GiB", 2**30),
        ("3kB", 3000),
        ("3KB", 3000),
        ("3KiB", 3072),
        ("17B", 17),
        ("1.7B", 1),
        (4_500_000, 4_500_000),
    ],
)
@pytest.mark.parametrize("name", ["size", "activation_memory"])
def test_sizes_are_parsed_exactly_in_decimal_and_binary_units(name, value, parsed):
    assert getattr(Budget(**{name: value}), name) == parsed


@pytest.mark.parametrize(
    ("value", "parsed"), [("12.2x", "12.2"), ("12.2", "12.2"), (12.2, "12.2"), (8, "8"), ("1x", 1)]
)
def test_compression_is_exactly_what_was_written_in_decimal(value, parsed):
    assert Budget(compression=value).compression == Fraction(parsed)


@pytest.mark.parametrize(("limit", "parsed"), [(2.5, "2.5"), ("2.5", "2.5"), (3, "3"), (0.1, "0.1")])
def test_latency_keeps_the_table_and_an_exact_limit(limit, parsed):
    assert Budget(latency=(TIMES, limit)).latency == (TIMES, Fraction(parsed))


def test_constraints_that_were_not_given_are_none_and_several_hold_together():
    budget = Budget(bitops="3G", size="4MB", latency=None)
    assert budget == Budget(bitops=3_000_000_000, size=4_000_000)
    assert budget.compression is budget.latency is budget.activation_memory is None
    assert repr(budget) == "Budget(bitops=3000000000, size=4000000)"


def test_a_budget_holds_named_limits_only():
    with pytest.raises(TypeError, match=r"^Budget\(\) got an unexpected keyword argument 'bitop'$"):
        Budget(bitop="3G")
    with pytest.raises(AttributeError, match="^'Budget' object has no attribute 'bitop'$"):
        _ = Budget(bitops="3G").bitop


def test_equal_budgets_are_one_key_and_survive_a_copy():
    budget = Budget(bitops="3G", compression=8)
    assert {budget, Budget(compression="8x", bitops=3e9)} == {copy.deepcopy(budget)}
    assert pickle.loads(pickle.dumps(budget)) == budget


def test_a_number_of_numpy_is_a_number():
    assert Budget(bitops=np.float64(2.5e9)).bitops == 2_500_000_000


@pytest.mark.parametrize(
    ("value", "because"),
    [
        ("", "write ASCII digits"),
        (" 3G", "write ASCII digits"),
        ("3G\n", "write ASCII digits"),
        ("-3G", "write ASCII digits"),
        ("+3G", "write ASCII digits"),
        ("3_0", "write ASCII digits"),
        ("3.G", "write ASCII digits"),
        (".5G", "write ASCII digits"),
        ("1.2.3G", "write ASCII digits"),
        ("1,5G", "write ASCII digits"),
        ("３G", "write ASCII digits"),  # a full-width digit
        ("٣G", "write ASCII digits"),  # an Arabic-Indic digit
        ("nan", "write ASCII digits"),
        ("inf", "write ASCII digits"),
        ("w3a4 ", "write ASCII digits"),
        (
            "w9a4",
            'is no uniform policy: "w3a4" is one, 3 bits for all weights and 4 for all activations',
        ),
        ("w1a4", "is no uniform policy"),
        ("W3A4", "is no uniform policy"),
        ("w3", "is no uniform policy"),
        ("a4w4", "is no uniform policy"),
        ("0x10", "write ASCII digits"),
        ("9" * 33, "write ASCII digits"),
        ("3e", "the unit 'e' is not known"),
        ("3  G", 'did you mean "3G"'),
        ("3_000_000_000", 'did you mean "3000000000"'),
        ("+3G", 'did you mean "3G"'),
        ("1,5g", 'did you mean "1.5G"'),
        ("3GFLOPs", 'did you mean "3G"'),
        ("3GB", "the unit 'GB' is not known \\(known: K, M, G, T\\); 3GB is a size: give size=\"3GB\"; otherwise use"),
        ("3 mb", '3MB is a size: give size="3MB"; otherwise use'),
        ("3B", "the unit 'B' is not known \\(known: K, M, G, T\\); use for"),  # billions, as like as bytes
        ("3x", "the unit 'x' is not known"),
        ("0G", "must be above 0"),
        ("0.0", "must be above 0"),
        (0, "must be above 0"),
        (-1, "must be above 0"),
        (-0.0, "must be above 0"),
        pytest.param(-(10**5000), "must be above 0", id="huge"),
        ("0.5", "leaves nothing: it must be at least 1"),
        (0.99, "leaves nothing: it must be at least 1"),
        (float("nan"), "must be finite"),
        (float("inf"), "must be finite"),
        (float("-inf"), "must be finite"),
        (True, "must be a number or text"),
        (False, "must be a number or text"),
        (b"3G", "must be a number or text"),
        ([3], "must be a number or text"),
        (3 + 0j, "must be a number or text"),
        (Decimal("nan"), "must be finite"),
        (Decimal("sNaN"), "must be finite"),
        (Decimal("-inf"), "must be finite"),
        pytest.param(10**5000, "has more than 4,000 digits", id="huge"),
        (Fraction(1, 10**5000), "has more than 4,000 digits"),
        (Decimal("inf"), "must be finite"),
        (Decimal("1e999999999"), "must be finite"),
        (Decimal(0), "must be above 0"),
        (np.bool_(True), "must be a number or text"),
        (LayerBits(3, 4), "must be a number or text"),
    ],
)
def test_malformed_bitops_are_refused_with_the_reason_and_an_example(value, because):
    with pytest.raises(BudgetError, match=because) as caught:
        Budget(bitops=value)
    assert str(caught.value).startswith("bitops=")
    assert '"3G", "850M", 2.5e9, or "w3a4"' in str(caught.value)


@pytest.mark.parametrize("name", ["size", "activation_memory"])
@pytest.mark.parametrize(
    ("value", "because"),
    [
        ("4.5", r"the unit is missing \(known: B, kB, KB, MB, GB, KiB, MiB, GiB\)"),
        ("4.5M", "the unit 'M' is not known"),
        ("4.5mbit", 'did you mean "4.5MB"'),
        ("4.5M", 'did you mean "4.5MB"'),
        ("64k", 'did you mean "64kB"'),
        ("2T", r"the unit 'T' is not known \(.*\); did you mean bitops=\"2T\"\? Otherwise"),
        ("w4a4", r'w4a4 are the BitOps of a uniform policy: give bitops="w4a4"; otherwise use'),
        ("3gi", 'did you mean "3GiB"'),
        ("0MB", "must be above 0"),
        ("0.5B", "leaves nothing"),
        (True, "must be a number or text"),
        (float("nan"), "must be finite"),
    ],
)
def test_malformed_sizes_are_refused_with_the_reason_and_an_example(name, value, because):
    with pytest.raises(BudgetError, match=because) as caught:
        Budget(**{name: value})
    assert str(caught.value).startswith(f"{name}=")
    assert '"4.5MB" (1e6 bytes), "4.5MiB" (2**20)' in str(caught.value)


@pytest.mark.parametrize("name", ["size", "activation_memory"])
def test_giga_for_a_size_are_bitops_or_megabytes(name):  # 3 GB are beyond any network
    with pytest.raises(
        BudgetError, match=rf'not known \(.*\); did you mean bitops="3G", or {name}="3MB"\? Otherwise use'
    ):
        Budget(**{name: "3G"})


@pytest.mark.parametrize(
    ("value", "because"),
    [
        ("12y", "the unit 'y' is not known"),
        ("3MB", '3MB is a size: give size="3MB"; otherwise use'),
        ("3G", 'did you mean bitops="3G"\\? Otherwise use'),
        ("x", "write ASCII digits"),
        (0, "above 0"),
        (-2.0, "above 0"),
        (True, "a number"),
    ],
)
def test_malformed_compression_is_refused_with_the_reason_and_an_example(value, because):
    with pytest.raises(BudgetError, match=f'^compression=.*{because}.*"12.2x" or 12.2'):
        Budget(compression=value)


@pytest.mark.parametrize("value", [TIMES, 2.5, "2.5", (TIMES,), (TIMES, 1, 2), [TIMES, 1], ({}, 1), ([1], 1)])
def test_latency_that_is_no_table_with_a_limit_is_refused(value):
    with pytest.raises(BudgetError, match=r"^latency=.* is not a budget: give \(table, limit\), for example"):
        Budget(latency=value)


@pytest.mark.parametrize(
    ("table", "limit", "because"),
    [
        ({"a": 3}, 1, r"latency of layer 'a' is 3: give \(table, limit\)"),
        (
            {"a": {(2, 2): -1}},
            1,
            r"latency of layer 'a' at bits \(2, 2\) is -1: a time is a finite number of at least 0",
        ),
        ({"a": {(2, 2): float("nan")}}, 1, "is nan: a time is a finite number"),
        ({"a": {(2, 2): float("inf")}}, 1, "is inf: a time is a finite number"),
        ({"a": {(2, 2): True}}, 1, "is True: a time is a finite number"),
        ({"a": {(2, 2): "1"}}, 1, "is '1': a time is a finite number"),
        (TIMES, 0, "latency=0 is not a budget: it must be above 0"),
        (TIMES, float("nan"), "latency=nan is not a budget: it must be finite"),
        (TIMES, "2 parsecs", "the unit 'parsecs' is not known"),
        (TIMES, None, "latency=None is not a budget: it must be a number or text"),
    ],
)
def test_latency_with_a_wrong_time_or_limit_is_refused(table, limit, because):
    with pytest.raises(BudgetError, match=because):
        Budget(latency=(table, limit))


def test_a_budget_without_any_constraint_is_refused_with_three_examples():
    with pytest.raises(
        BudgetError, match=r'no budget was given: use for example bitops="3G", size="4.5MB" or compression'
    ):
        Budget()


def test_a_long_or_unprintable_value_is_quoted_short_and_escaped():
    for value in ("3" * 500, "\x1b[31m3G", 10**6000 * -1):
        with pytest.raises(BudgetError) as caught:
            Budget(bitops=value)
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()


def test_a_budget_error_is_a_value_error_and_a_limpq_error():
    with pytest.raises(ValueError, match="is not a budget") as caught:
        Budget(bitops="nan")
    assert isinstance(caught.value, LimpqError)


def test_a_budget_cannot_be_changed():
    with pytest.raises(AttributeError, match="cannot assign to field 'bitops'"):
        Budget(bitops="3G").bitops = 1


def test_numbers_of_numpy_are_numbers():
    assert Budget(bitops=np.int64(3_000_000_000)).bitops == Budget(bitops=np.float64(3e9)).bitops == 3_000_000_000
    assert Budget(bitops=Decimal("3e9")).bitops == 3_000_000_000
    assert Budget(compression=Decimal("12.2")).compression == Fraction(122, 10)


def test_what_is_written_always_suffices_and_is_at_most_one_percent_more():
    rng = random.Random(0)
    for _ in range(2000):
        value = int(10 ** rng.uniform(0, 14))
        assert value <= Budget(bitops=enough_bitops(value)).bitops <= value * 1.01
        assert value <= Budget(size=enough_size(value)).size <= value * 1.01


def test_limits_written_as_options_are_read_back_as_they_were(tmp_path):
    parser = argparse.ArgumentParser()
    for kind in KINDS:
        parser.add_argument(kind.flag, **kind.option)
    limits = {"size": "4.5 MB", "latency": (str(tmp_path / "my times.csv"), "2.5"), "activation_memory": "64kB"}
    words = limit_words(limits)
    assert words[:2] == ["--size", "4.5 MB"]
    assert typed_limits(vars(parser.parse_args(words))) == limits


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("number", [4_000_000, 4e6, 3.5e9, 1e22, 12.25])
def test_a_limit_that_was_a_number_is_the_same_limit_when_it_is_typed(kind, number, tmp_path, monkeypatch):
    np.save(tmp_path / "-times.npy", np.ones((1, 8, 8)))
    monkeypatch.chdir(tmp_path)
    is_table = isinstance(kind, LayerTableKind)
    limit = ("-times.npy", number) if is_table else number
    parser = argparse.ArgumentParser()
    parser.add_argument(kind.flag, **kind.option)
    typed = typed_limits(vars(parser.parse_args(limit_words({kind.name: limit}))))
    of_typed, of_number = (Budget(**given).limits[kind.name] for given in (typed, {kind.name: limit}))
    assert of_typed[1:] == of_number[1:] if is_table else of_typed == of_number


@pytest.mark.parametrize(("typed", "meant"), [("4500000", "4500000B"), ("1000", "1000B"), ("4.5", "4.5MB")])
@pytest.mark.parametrize("name", ["size", "activation_memory"])
def test_of_bytes_without_a_unit_a_large_number_is_taken_for_bytes_and_a_small_one_for_megabytes(name, typed, meant):
    with pytest.raises(BudgetError, match=rf'the unit is missing .*; did you mean "{meant}"\? Otherwise use'):
        Budget(**{name: typed})
    Budget(**{name: meant})


@pytest.mark.parametrize(
    "limits",
    [{"bitops": "3G", "latency": (TIMES, 2.5)}, {"bitops": Fraction(3)}, {"bitops": 10**40}, {"size": 10**40}],
)
def test_limits_that_no_command_line_can_hold_are_not_written_as_options(limits):
    assert limit_words(limits) is None
