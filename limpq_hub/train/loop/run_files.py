"""What an output folder says of how far its run is; told without torch, by a command that is stopped while it loads."""

from __future__ import annotations

import os
import re
from pathlib import Path

OPTIONS = "options.json"
_STATE = re.compile(r"step-[0-9]+")


def is_begun(output: Path) -> bool:
    """Return whether a run was begun in a folder."""
    return os.path.exists(output / OPTIONS)


def states_of(output: Path) -> Path:
    """Return the folder that the states of a run are saved in."""
    return output / "states"


def saved_states(folder: Path) -> list[Path]:
    """Return the saved states, the newest first; a copy under another name is none."""
    states = folder.glob("step-*") if os.path.isdir(folder) else []
    return sorted((path for path in states if _STATE.fullmatch(path.name)), key=_step_of, reverse=True)


def newest_step(folder: Path) -> int:
    """Return the step of the newest saved state in `folder`, whether or not it verifies; 0 where there is none."""
    return max(map(_step_of, saved_states(folder)), default=0)


def _step_of(state: Path) -> int:
    return int(state.name.removeprefix("step-"))
