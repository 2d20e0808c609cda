"""The Markdown files: their links lead somewhere, the first page is short, and its Python runs."""

import re
import subprocess
from pathlib import Path

import pytest

from limpq_hub.zoo.loading import NotFineTunedWarning

ROOT = Path(__file__).parents[1]
TRACKED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True)
DOCUMENTS = TRACKED.stdout.split()
LINK = re.compile(r"!?\[[^\]]*\]\(([^()\s]+)\)")
REMOTE = ("http://", "https://", "mailto:")


def prose_of(document: Path) -> str:
    """Return the text of a document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors_of(document: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ +(.+)$", prose_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_documents_to_check():
    assert {"README.md", ".github/CONTRIBUTING.md", "training/README.md"} <= set(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_relative_link_leads_to_a_file_of_the_repository(name):
    document = ROOT / name
    for link in LINK.findall(prose_of(document)):
        if link.startswith(REMOTE):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.is_relative_to(ROOT), f"{name}: {link}"
        assert target.exists(), f"{name}: {link}"
        assert not anchor or anchor in anchors_of(target), f"{name}: {link}"


def test_the_first_page_is_at_most_10_000_bytes():
    assert (ROOT / "README.md").stat().st_size <= 10_000


def test_the_ten_lines_of_the_first_page_run_and_print_what_their_comments_say(capsys):
    [program] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(program.strip().splitlines()) <= 12
    names: dict[str, object] = {}
    with pytest.warns(NotFineTunedWarning, match="fine-tune"):
        exec(program, names)
    searched, loaded = capsys.readouterr().out.splitlines()
    assert searched.startswith(f"{names['plan'].bitops} ")
    assert re.fullmatch(r"finetuned \d\d\.\d+", loaded)
    assert names["model"].limpq.weights == "joint"


def test_the_search_for_links_sees_pictures_anchors_and_two_on_a_line(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("# The `one` page\n![a\nb](c.png) [d](e/f.md#the-one-page)\n```\n[g](h)\n```\n")
    assert LINK.findall(prose_of(document)) == ["c.png", "e/f.md#the-one-page"]
    assert anchors_of(document) == {"the-one-page"}


def test_each_cell_about_another_tool_has_its_source_or_is_a_dash():
    rows = [line for line in (ROOT / ".github/COMPARISON.md").read_text().splitlines() if line.startswith("| ")]
    heading, *tools = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert len(tools) == 8
    for tool, *cells in tools:
        assert len(cells) == len(heading) - 1, tool
        assert all(cell == "-" or LINK.search(cell) for cell in cells), tool
    # What is linked stays as it was read.
    branches = re.compile(r"github\.com/[^/]+/[^/]+/(?:blob|tree)/(?![0-9a-f]{40}/)")
    assert not [cell for tool in tools for cell in tool if branches.search(cell)]
