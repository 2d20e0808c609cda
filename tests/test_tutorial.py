"""The tutorial: a notebook without outputs whose cells run one after the other, from pictures to integers."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / ".github" / "tutorial.ipynb"


def cells_of(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_the_tutorial_has_ten_cells_of_code_each_with_a_heading_and_no_output_of_an_older_version():
    code = cells_of("code")
    assert len(code) == 10
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    headings = [line for cell in cells_of("markdown") for line in cell["source"] if line.startswith("## ")]
    assert [heading.split(".")[0] for heading in headings] == [f"## {number}" for number in range(1, 11)]


@pytest.mark.slow
@pytest.mark.skipif(not all(map(find_spec, ("onnx", "openvino"))), reason='needs the extra "export"')
def test_the_cells_of_the_tutorial_lead_from_pictures_to_integers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells_of("code"), start=1):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        if number == 5:  # a cell may be run again
            exec("".join(cells_of("code")[2]["source"]), names)
    assert names["model"].limpq.weights == "finetuned"
    assert names["seen"] == {"night": "night", "dusk": "dusk", "day": "day"}
    assert names["exported"].parity.agreement > 0.9
    weights = sum(cost.weights for cost in names["plan"].costs.values())
    assert (tmp_path / "out/tutorial/w3a3/model.safetensors").stat().st_size < 4 * weights / 3
    assert "day" in capsys.readouterr().out.rpartition("pictures, seen by")[2]
