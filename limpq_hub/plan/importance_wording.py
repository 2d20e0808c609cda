"""What tables, figures and the demo call each importance: a policy that measured pairs chose was not learned."""

from __future__ import annotations

from collections.abc import Mapping

from limpq_hub.plan.indicators import Importance

IMPORTANCE_WORDS: Mapping[Importance, str] = {"learned": "learned steps", "measured": "measured pairs"}
