"""Make the links of README.md lead to GitHub: a package index shows it where the repository is not.

    python .github/reference/first_page.py https://github.com/OWNER/NAME COMMIT    # before `python -m build`

In the repository they are relative, and work there; a release builds from a copy that was written anew by this.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tutorial import RELATIVE

ROOT = Path(__file__).parents[2]
_IMAGE = re.compile(r"(?<=!)(\[[^\]]*\]\()" + RELATIVE.pattern)


def absolute(text: str, repository: str, commit: str) -> str:
    """Return a text whose relative links lead to the files of a commit, and whose images are these files."""
    text = _IMAGE.sub(lambda image: f"{image[1]}{repository}/raw/{commit}/{image[0].removeprefix(image[1])}", text)
    return RELATIVE.sub(lambda link: f"{repository}/blob/{commit}/{link[0]}", text)


if __name__ == "__main__":
    page = ROOT / "README.md"
    page.write_text(absolute(page.read_text(encoding="utf-8"), *sys.argv[1:]), encoding="utf-8")
