"""What a plan says of itself, for somebody who trains or measures by it."""

from __future__ import annotations

import sys

from accelerate import Accelerator

from limpq_hub.plan.option_wording import as_typed
from limpq_hub.plan.plan import Plan


def print_plan_notes(accelerator: Accelerator, plan: Plan, budget: str = "") -> None:
    """Print to stderr, once for all processes, what the user should know about a plan, in the words of a shell.

    Args:
        budget: that the plan is of, to be named where there are several.
    """
    prefix = f"note: {budget}: " if budget else "note: "
    for text in plan.notes:
        accelerator.print(f"{prefix}{as_typed(text)}", file=sys.stderr, flush=True)
