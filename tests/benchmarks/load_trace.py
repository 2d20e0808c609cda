"""How many files of the package one `load("resnet18", bitops="3G")` enters, and how often it goes from one to another.

    python tests/benchmarks/load_trace.py

Everything is imported, and a first call made, before counting begins. Then every call of a function, method, property,
comprehension or generator that is written in `limpq_hub` is noted, in their order, with the file that it is written in:
`files` is how many different files that gives, `switches` how often two calls in a row are of different files. What
torch, timm or the standard library do between them does not count, nor does coming back to a caller.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType

import limpq_hub


def files_of_calls() -> list[str]:
    """Return the file of every call in the package, in their order, while one model is loaded."""
    package = Path(limpq_hub.__file__).parent
    entered: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(package):
            entered.append(path.relative_to(package).as_posix())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limpq_hub.load("resnet18", bitops="3G")
        sys.setprofile(note)
        try:
            limpq_hub.load("resnet18", bitops="3G")
        finally:
            sys.setprofile(None)
    return entered


def main() -> None:
    """Print both numbers, and below them the calls of each file."""
    entered = files_of_calls()
    switches = sum(before != after for before, after in itertools.pairwise(entered))
    calls = Counter(entered)
    print(f"files {len(calls)}, switches {switches}, calls {len(entered)}")
    for file, count in calls.most_common():
        print(f"{count:6} {file}")


if __name__ == "__main__":
    main()
