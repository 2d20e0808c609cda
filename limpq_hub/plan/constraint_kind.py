"""What a kind of constraint knows of itself: its keyword and option, its grammar, how it is told, what it allows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, ClassVar, Generic, TypeVar

from limpq_hub.errors import BudgetError, quoted
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.layer_groups import LayerGroup
from limpq_hub.plan.quantities import WITHOUT_UNIT, plainly_written
from limpq_hub.plan.rounding import decimal_above

Limit = TypeVar("Limit")
_MOST_DIGITS = 12
_LONGEST_TEXT = 76


class ConstraintKind(ABC, Generic[Limit]):
    """One kind of limit on what a policy takes; `Limit` is the type of a limit that was parsed.

    Attributes:
        name: keyword of `search` and `Budget`, and attribute of `Budget`.
        help: what the command line says of its option.
        unit: ends a limit that is told in a message.
        units: what text of a limit may end in, and what it multiplies the number by.
        word: pattern of a word that may end the unit without a meaning of its own.
        grows_with_bits: whether more bits always take more, so that the fewest bits take the least.
        limits_activations: whether it can keep activations from their most bits.
        advice: follows a limit that works in a message.
        at_least, at_most: lead to the two ends of what is possible in a message; the end that is hard to meet first.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    unit: ClassVar[str] = ""
    units: ClassVar[Mapping[str, int]] = {}
    word: ClassVar[str] = ""
    grows_with_bits: ClassVar[bool] = True
    limits_activations: ClassVar[bool]
    advice: ClassVar[str] = "or more"
    at_least: ClassVar[str] = "needs at least"
    at_most: ClassVar[str] = "and uses at most"

    @property
    def flag(self) -> str:
        """Its option of the command line: "--activation-memory"."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def option(self) -> Mapping[str, Any]:
        """What argparse needs to know of the option besides its flag."""
        return {"help": self.help}

    def of_option(self, value: Any) -> Any:
        """Return what argparse made of the option as `parse` takes it."""
        return value

    def option_words(self, value: Any) -> list[str] | None:
        """Return what is typed after the flag for an argument of `search`, or None where no shell can hold it."""
        if isinstance(value, int | float):
            value = f"{value}{'' if '' in self.units else self.unit}"
        return [value] if isinstance(value, str) and self.takes(value) else None

    def keyword(self, text: str) -> str:
        """Return the argument of `search` for the text of a limit, as a message tells it: `size="4.50MB"`."""
        return f'{self.name}="{text}"'

    @abstractmethod
    def parse(self, value: Any) -> Limit:
        """Return the limit that an argument of `search` stands for.

        Raises:
            BudgetError: the value is not in the grammar of this kind.
        """

    def takes(self, value: Any) -> bool:
        """Return whether an argument of `search` is in the grammar of this kind."""
        try:
            self.parse(value)
        except BudgetError:
            return False
        return True

    def reading(self, value: Any) -> str | None:
        """Return how an argument of `search` was read, a sentence, or None where it is as plain as can be."""
        plain = plainly_written(value, self.units, self.word)
        return None if plain is None else f"{self.name}={quoted(value)} was read as {plain}"

    def meant(self, requested: Fraction, least: Fraction, most: Fraction) -> str:
        """Return a question for the unit that a limit too low lacks, or nothing.

        Args:
            least, most: between them a limit is possible and of effect.
        """
        if requested >= WITHOUT_UNIT:
            return ""
        for unit, size in self.units.items():
            if size > 1 and least <= requested * size <= most:
                return f'; did you mean {self.name}="{decimal_above(requested, _MOST_DIGITS)}{unit}"?'
        return ""

    def allowed(self, limit: Limit, indicators: Indicators, groups: Sequence[LayerGroup]) -> list[LayerGroup]:
        """Return the groups without the options that the limit rules out one by one: none, unless a kind says so.

        Raises:
            InfeasibleBudgetError: a group has no option left.
        """
        return list(groups)

    def with_entries(self, limit: Limit, groups: Sequence[LayerGroup]) -> list[LayerGroup]:
        """Return the groups without the options for which a table has no entry.

        A group may have none left.
        """
        return list(groups)

    def most_allowed(self, limit: Limit, indicators: Indicators, groups: Sequence[LayerGroup]) -> Fraction | None:
        """Return the most that any options take where the limit rules out none of them, else None.

        Kinds that are sums over layers, which rule out no single options, leave this to their `LinearConstraint`.
        """
        return None

    def without_effect(self, most: Fraction) -> str:
        """Return how a limit that every choice of bits meets lies to the most that one takes, a clause."""
        return f"{self.name}= is no less than the {self.text(most)} that the most bits take"

    def number(self, amount: Fraction) -> float:
        """Return a number that allows `amount` when it is fed back as a limit, and as little more as can be."""
        return math.ceil(amount)

    @abstractmethod
    def text(self, amount: Fraction) -> str:
        """Return text that allows `amount` when it is fed back as a limit, and little more."""

    def requested_text(self, requested: Fraction) -> str:
        """Return a limit as it was requested, with so many digits that it never reads like the least that works."""
        text = decimal_above(requested, _MOST_DIGITS)
        return (text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}...") + self.unit
