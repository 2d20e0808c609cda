"""The budget of a command: every kind of constraint is an option, and means what it means in a search."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from limpq_hub import search
from limpq_hub.plan.budget import Budget
from limpq_hub.plan.constraints import KINDS
from limpq_hub.plan.constraints.layer_table import LayerTableKind
from limpq_hub.plan.quantities import format_bitops
from limpq_hub.train import finetune
from limpq_hub.train.options import add_policy_options, parser_of, settings_of
from limpq_hub.zoo.assembly import is_policy_name
from limpq_hub.zoo.catalog import find_entry

TABLES = [kind for kind in KINDS if isinstance(kind, LayerTableKind)]
TYPED = {"bitops": "w3a4", "size": "4.5MB", "compression": "12.2x", "activation_memory": "64kB"}


@dataclass(frozen=True)
class Constrained:
    constraints: Mapping[str, Any]


def policy_parser() -> ArgumentParser:
    parser = parser_of("A command.", "finetune")
    add_policy_options(parser, teacher=True, required=False)
    return parser


def budget_of(*typed: str) -> Mapping[str, Any]:
    return settings_of(Constrained, policy_parser(), "finetune", typed).constraints


@pytest.mark.parametrize(("name", "text"), TYPED.items())
def test_a_limit_that_is_typed_is_the_one_that_a_search_takes_as_text(name, text):
    limits = budget_of(f"--{name.replace('_', '-')}", text)
    assert Budget(**limits) == Budget(**{name: text})


@pytest.mark.parametrize("kind", TABLES, ids=lambda kind: kind.name)
def test_a_table_is_typed_as_its_file_and_its_limit(kind, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(f"layer,weight_bits,activation_bits,{kind.entry.column}\nconv1,4,2,0.25\n")
    limits = budget_of(kind.flag, str(path), "2.5")
    assert Budget(**limits) == Budget(**{kind.name: ({"conv1": {(4, 2): 0.25}}, 2.5)})


def test_every_kind_is_offered_and_nothing_is_limited_unless_it_is_typed():
    typed = vars(policy_parser().parse_args([]))
    assert [kind.name for kind in KINDS if typed.get(kind.name, "missing") is not None] == []
    assert budget_of() == {}
    assert str(budget_of("--policy", "bits.json")["policy"]) == "bits.json"


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (["--bitops", "3G"], "3G"),
        (["--bitops", "w3a4"], "w3a4"),
        (["--bitops", "w8a8"], "w8a8"),
        (["--bitops", "900G"], "9.48G"),  # what a search takes that nothing limits
        (["--bitops", "900G", "--size", "5MB"], None),
        (["--size", "5MB"], "out"),
    ],
)
def test_a_policy_is_called_after_its_budget_or_after_its_bitops_where_no_policy_takes_as_much(typed, name):
    settings = finetune.parse_options(["--model", "resnet18", "--data", "pictures", "--output", "tuned/out", *typed])
    plan = search("resnet18", **settings.constraints)
    found = finetune._policy_name(settings, plan, find_entry("resnet18"))
    assert found == (name or format_bitops(plan.bitops))
    assert is_policy_name(found)
