"""The tutorial: a notebook without outputs whose cells run one after the other; and the links of what is published."""

from __future__ import annotations

import json
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / ".github" / "tutorial.ipynb"


def script(name: str) -> ModuleType:
    """Return a script of .github/reference as a module."""
    spec = spec_from_file_location(f"published_{name}", ROOT / ".github" / "reference" / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells_of(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_the_tutorial_has_ten_cells_of_code_each_with_a_heading_and_no_output_of_an_older_version():
    code = cells_of("code")
    assert len(code) == 10
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    headings = [line for cell in cells_of("markdown") for line in cell["source"] if line.startswith("## ")]
    assert [heading.split(".")[0] for heading in headings] == [f"## {number}" for number in range(1, 11)]


def test_each_relative_link_of_the_tutorial_leads_to_a_file_in_the_repository_and_on_its_published_page(
    tmp_path, monkeypatch
):
    tutorial = script("tutorial")
    links = list(tutorial.relative_links(NOTEBOOK))
    assert "../training/README.md" in links
    for link in links:
        assert (NOTEBOOK.parent / link.partition("#")[0]).is_file(), link
    (tmp_path / ".github").mkdir()
    (tmp_path / ".github" / NOTEBOOK.name).write_bytes(NOTEBOOK.read_bytes())
    monkeypatch.setattr(tutorial, "ROOT", tmp_path)
    tutorial.main("https://example.org/you/net/blob/1a2b3c")
    published = tmp_path / "out" / NOTEBOOK.name
    assert list(tutorial.relative_links(published)) == []
    text = published.read_text()
    for link in links:
        path = (NOTEBOOK.parent / link).resolve().relative_to(ROOT).as_posix()
        assert f"](https://example.org/you/net/blob/1a2b3c/{path})" in text
    assert len(json.loads(text)["cells"]) == len(json.loads(NOTEBOOK.read_text())["cells"])


def test_each_link_of_the_first_page_leads_to_a_file_and_where_an_index_shows_it_to_the_same_file_of_a_commit(
    monkeypatch,
):
    monkeypatch.syspath_prepend(ROOT / ".github" / "reference")
    page = script("first_page")
    text = (ROOT / "README.md").read_text()
    links = page.RELATIVE.findall(text)
    assert {"training/README.md", "app/screenshot.png"} <= set(links)
    assert all((ROOT / link.partition("#")[0]).is_file() for link in links)
    shown = page.absolute(text, "https://example.org/you/net", "1a2b3c")
    assert page.RELATIVE.findall(shown) == []
    assert "](https://example.org/you/net/blob/1a2b3c/training/README.md)" in shown
    assert "](https://example.org/you/net/raw/1a2b3c/app/screenshot.png)" in shown
    assert "](#what-it-reaches)" in shown


def test_the_build_of_the_reference_names_each_link_of_a_page_that_leads_nowhere(tmp_path):
    pytest.importorskip("pdoc")
    (tmp_path / "inner").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="inner/page.html#x">a</a> <a href="#here">b</a> <a href="${url}">c</a>'
    )
    (tmp_path / "inner/page.html").write_text(
        '<a href="../index.html">a</a> <a href="../../training/README.md">b</a> <a href="https://x.org/y">c</a> '
        '<img src="data:image/png;base64,AA"> <img src="none.png">'
    )
    assert script("build").dead_links(tmp_path) == [
        "inner/page.html: the link ../../training/README.md leads nowhere",
        "inner/page.html: the link none.png leads nowhere",
    ]


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
