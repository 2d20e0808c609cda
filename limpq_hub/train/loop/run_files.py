"""What an output folder says of how far its run is; told without torch, by a command that is stopped while it loads."""

from __future__ import annotations

import os
from pathlib import Path

OPTIONS = "options.json"


def is_begun(output: Path) -> bool:
    """Return whether a run was begun in a folder."""
    return os.path.exists(output / OPTIONS)


def states_of(output: Path) -> Path:
    """Return the folder that the states of a run are saved in."""
    return output / "states"


def saved_states(folder: Path) -> list[Path]:
    """Return the saved states, the newest first."""
    return sorted(folder.glob("step-*"), reverse=True) if os.path.isdir(folder) else []


def newest_step(folder: Path) -> int:
    """Return the step of the newest saved state in `folder`, whether or not it verifies; 0 where there is none."""
    return max((int(path.name.removeprefix("step-")) for path in saved_states(folder)), default=0)
