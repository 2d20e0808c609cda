"""Write the tutorial as it is published: beside the API reference there is no repository, so its links lead to GitHub.

    python .github/reference/tutorial.py https://github.com/OWNER/NAME/blob/COMMIT    # writes out/tutorial.ipynb

In the repository its links are relative, and work there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from posixpath import normpath

ROOT = Path(__file__).parents[2]
NOTEBOOK = PurePosixPath(".github/tutorial.ipynb")
# A Markdown link to something that is neither an address nor a place on the same page.
RELATIVE = re.compile(r"(?<=\]\()(?!\w+:|#)[^()\s]+(?=\))")


def main(address: str) -> None:
    """Write the notebook with links to the files of the repository as an address shows them."""
    content = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = [
                RELATIVE.sub(lambda link: f"{address}/{path_of(link[0])}", line) for line in cell["source"]
            ]
    target = ROOT / "out" / NOTEBOOK.name
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def path_of(link: str) -> str:
    """Return what a relative link of the notebook leads to, as a path from the root of the repository."""
    return normpath(NOTEBOOK.parent / link)


def relative_links(path: Path) -> Iterator[str]:
    """Yield the relative links in the text of a notebook."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            yield from RELATIVE.findall("".join(cell["source"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
