"""Tests of the benchmark that checks every network: what it records of one, and how it sums them up."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks/check_every_network.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_every_network", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_network_that_passes_is_recorded_with_both_counts(benchmark):
    record = benchmark.checked("test_resnet")
    assert record.pop("seconds") > 0
    assert record == {
        "name": "test_resnet",
        "outcome": "equal",
        "converted": False,
        "macs": 102_547_200,
        "flop_counter_macs": 102_547_200,
        "searched": 14,
        "products": 0,
        "float_macs": 0,
        "float": [],
        "uncalled": [],
    }


def test_a_network_can_be_counted_after_its_conversion_too(benchmark, monkeypatch):
    record = benchmark.checked("test_vit", convert=True)
    assert (record["outcome"], record["converted"], record["products"]) == ("equal", True, 12)
    monkeypatch.setattr(benchmark, "flop_counter_macs", lambda network, shape: record["macs"] - 1)
    assert benchmark.checked("test_vit", convert=True)["outcome"] == "unequal"


def test_a_refusal_is_recorded_with_its_reason(benchmark):
    record = benchmark.checked("sequencer2d_s")
    assert (record["outcome"], "(LSTM) cannot be quantized" in record["reason"]) == ("refused", True)


def test_any_other_error_is_recorded_with_where_it_came_from(benchmark, monkeypatch):
    def fail(*arguments):
        raise KeyError("weight")

    monkeypatch.setattr(benchmark, "check_network", fail)
    record = benchmark.checked("test_resnet")
    assert record["outcome"] == "error"
    assert record["reason"].startswith("KeyError: 'weight' (test_check_every_network.py:")


def test_of_a_network_that_was_checked_twice_the_last_line_counts(benchmark, tmp_path):
    path = tmp_path / "networks.jsonl"
    assert benchmark.records_in(path) == {}
    lines = [{"name": "a", "outcome": "error"}, {"name": "b", "outcome": "equal"}, {"name": "a", "outcome": "equal"}]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert benchmark.records_in(path) == {"a": lines[2], "b": lines[1]}


def test_the_summary_groups_the_others_by_their_reasons(benchmark, capsys):
    refused = {"outcome": "refused", "seconds": 2.0}
    records = {
        "a": {"outcome": "equal", "seconds": 9.0},
        "b": refused | {"reason": "blocks.0.rnn cannot be quantized (48 such layers)"},
        "c": refused | {"reason": "blocks.2.rnn cannot be quantized (36 such layers)"},
        "d": {"outcome": "unequal", "macs": 1, "flop_counter_macs": 2, "seconds": 1.0},
    }
    benchmark.print_summary({name: {"name": name} | record for name, record in records.items()})
    out = capsys.readouterr().out
    assert "4 networks checked\n1 (25.0 %) pass with counts equal to the flop counter's\n" in out
    assert "2 x refused: blocksNrnn cannot be quantized (N such layers)\n    b, c\n" in out
    assert "1 x unequal: counts differ\n    d\n" in out
    assert out.endswith("slowest: a 9.0 s, b 2.0 s, c 2.0 s, d 1.0 s\n")
