"""The support matrix says of each family what its sweep and its export found, and stays beside the table it is of."""

from importlib.util import find_spec

import pytest
from support_matrix import TABLE, document, rows_of, tried_export

MATRIX = TABLE.with_name("support_matrix.md")
SWEPT = """
| family | network | pixels | layers | products | MACs | searched | 8/8 cosine | remarks |
|---|---|---|---|---|---|---|---|---|
| plain | net_a | 64 | 2 | 0 | 1.00K | 90.0 % | 0.9 |  |
| gated | net_b | 96 | 2 | 1 | 1.00K | 90.0 % | 0.9 | no gradient: x weight; in float: y |
| large | net_c | 64 | 2 | 0 | 1.00K | 90.0 % |  | counted only |
| odd | net_d | 64 |  |  |  |  |  | refused: z (LSTM) cannot be quantized |
| lossy | net_e | 64 | 2 | 0 | 1.00K | 90.0 % | 0.8 | other logits after loading |
"""
EXPORTS = {"plain": "yes", "gated": "x.qk is a product: networks with attention cannot", "lossy": "yes"}


def families(matrix: str) -> dict[str, list[str]]:
    lines = [line.strip("|").split("|") for line in matrix.partition("| family |")[2].splitlines() if "---" not in line]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in lines[1:]}


def test_each_family_is_told_step_by_step_and_the_families_are_counted():
    matrix = document(rows_of(SWEPT), EXPORTS, "the command")
    assert families(matrix) == {
        "plain": ["net_a", "yes", "yes", "yes", "yes", "yes", ""],
        "gated": [
            *["net_b", "yes", "yes", "in part", "yes", "no"],
            "no gradient: x weight; in float: y; export: x.qk is a product",
        ],
        "large": ["net_c", "yes", "not tried", "not tried", "not tried", "not tried", "counted only"],
        "odd": ["net_d", "no", "no", "no", "no", "not tried", "refused: z (LSTM) cannot be quantized"],
        "lossy": ["net_e", "yes", "yes", "yes", "no", "yes", "other logits after loading"],
    }
    assert "| families | 4 | 3 | 2 | 2 | 2 |" in matrix
    assert "All 5 families" in matrix


def test_the_matrix_of_the_repository_is_of_its_table():
    stored, swept = families(MATRIX.read_text()), rows_of(TABLE.read_text())
    assert list(stored) == [row.family for row in swept]
    assert {row.family: [row.network, *row.steps] for row in swept} == {name: row[:5] for name, row in stored.items()}


@pytest.mark.skipif(find_spec("onnx") is None, reason='needs the extra "export"')
def test_an_export_is_tried_and_a_refusal_is_told():
    assert tried_export("test_efficientnet", 64) == "yes"
    assert "networks with attention cannot be exported" in tried_export("test_vit", 160)
