"""What a visitor asks of the search: a budget and choices, as arguments, as Python and as a line for the shell."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any

from limpq_hub.errors import PolicyError, quoted

LONGEST_PINS = 400
_PIN = re.compile(r"([^\s=]+)=([0-9]),([0-9])", re.ASCII)


@dataclass(frozen=True)
class Request:
    """A budget and choices as the controls hold them.

    Attributes:
        model: name of a bundled entry, or of one of the Hub that was fetched.
        gigabitops: at most so many 1e9 BitOps per image; nine decimals count.
        megabytes: at most so many 1e6 bytes of weights, or None; six decimals count.
        alpha: factor of the weight importance, or None for the entry's own.
        pins: bits of some layers, "layer4.*=4,4 layer1.0.conv1=6,6": shell pattern = weight bits, activation bits.
    """

    model: str
    gigabitops: float
    megabytes: float | None = None
    alpha: float | None = None
    pins: str = ""

    @property
    def bitops_alone(self) -> bool:
        """Whether BitOps are the only limit and all else is as by default, as it was where top-1 was measured."""
        return self.megabytes is None and self.alpha is None and not self.pins.split()

    @property
    def budget(self) -> dict[str, Any]:
        """The limits, as `search` takes them."""
        size = {} if self.megabytes is None else {"size": f"{_decimals(self.megabytes, 6)}MB"}
        return {"bitops": f"{_decimals(self.gigabitops, 9)}G"} | size

    @property
    def arguments(self) -> dict[str, Any]:
        """The budget, and every other argument of `search` that differs from its default.

        Raises:
            PolicyError: the pins are not written as they should be.
        """
        alpha = {} if self.alpha is None else {"alpha": self.alpha}
        pins = parse_pins(self.pins)
        return self.budget | alpha | ({"pin": pins} if pins else {})

    def python(self) -> str:
        """Return the Python lines that find the same policy."""
        arguments = "".join(f", {name}={value!r}" for name, value in self.arguments.items())
        return (
            "import limpq_hub\n\n"
            f"plan = limpq_hub.search({self.model!r}{arguments})\n"
            f"model = limpq_hub.load({self.model!r}{arguments})\n"
        )

    def shell(self) -> str:
        """Return the line for the shell that writes the same policy."""
        words = ["limpq", "search", self.model]
        for name, value in self.arguments.items():
            if name == "pin":
                words += [word for layers, bits in value.items() for word in ("--pin", f"{layers}={bits[0]},{bits[1]}")]
            else:
                words += [f"--{name}", str(value)]
        return shlex.join([*words, "--output", "policy.json"])


def _decimals(number: float, most: int) -> str:
    """Return a number with as many decimals as it takes, two at least."""
    whole, decimals = f"{number:.{most}f}".split(".")
    return f"{whole}.{decimals[:2]}{decimals[2:].rstrip('0')}"


def parse_pins(text: str) -> dict[str, tuple[int, int]]:
    """Return (weight bits, activation bits) by shell pattern.

    Raises:
        PolicyError: the text is too long, or a word of it is no pin.
    """
    if len(text) > LONGEST_PINS:
        raise PolicyError(f"the pins are {len(text)} characters long; use at most {LONGEST_PINS}")
    pins: dict[str, tuple[int, int]] = {}
    for word in text.split():
        match = _PIN.fullmatch(word)
        if not match:
            raise PolicyError(f"{quoted(word)} is not a pin: write pattern=weight,activation, for example layer4.*=4,4")
        if match[1] in pins:
            raise PolicyError(f"{quoted(match[1])} is pinned twice; keep one of them")
        pins[match[1]] = (int(match[2]), int(match[3]))
    return pins
