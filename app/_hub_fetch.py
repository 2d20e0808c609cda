"""Fetch one entry of the Hub, within bounds: a process of its own, so that it can be ended whatever it waits for.

    python app/_hub_fetch.py hf-hub:owner/name FOLDER KEPT

What lies in KEPT already is not fetched again.
It prints one line of JSON: {"name": ...} with the commit that was fetched, or
{"error": ..., "kind": ..., "client": ..., "errno": ...} with the class of the error, that of what the client of the Hub
raised, and the number of what failed on this machine or null.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from limpq_hub.errors import ArtifactError, LimpqError
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.entry_folder import load_supernet
from limpq_hub.zoo.factory_path import factory_of
from limpq_hub.zoo.hub.repository import resolve_commit

# The ResNet-18 that ships with the package has 46 MB and 0.15 G; an EfficientNet-Lite4 2.6 G.
MOST_BYTES, MOST_MACS = 150_000_000, 5_000_000_000
PREFIX, COMPLETE = "hf-hub:", "complete"


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch, and print what became of it."""
    name, folder, kept = sys.argv[1:] if argv is None else argv
    try:
        print(json.dumps({"name": fetch(name, Path(folder), Path(kept))}))
    except (LimpqError, OSError) as error:
        kind, client = type(error).__name__, getattr(error, "client_error", "").partition(":")[0]
        number = getattr(error, "errno", None)
        print(json.dumps({"error": str(error), "kind": kind, "client": client, "errno": number}))


def fetch(name: str, folder: Path, kept: Path) -> str:
    """Fetch every file of an entry into its own folder in `folder`, unless `kept` has it; return its name and commit.

    Args:
        name: hf-hub:owner/name, perhaps with @revision.

    Raises:
        HubError: the Hub does not give it.
        ArtifactError: it is no entry, is damaged, does not fit its network, or is too large for the demo.
    """
    repo, _, revision = name.removeprefix(PREFIX).partition("@")
    commit = resolve_commit(repo, revision or None, str(folder), None)
    pinned = f"{PREFIX}{repo}@{commit}"
    own = folder_name(pinned)
    if (kept / own / COMPLETE).exists():
        return pinned
    entry = find_entry(pinned, cache_dir=str(folder / own))
    size, most = sum(map(entry.folder.listed_bytes, entry.folder.files)), MOST_BYTES
    if size > most:
        raise ArtifactError(
            f"{pinned} has {size / 1e6:.0f} MB, the demo takes {most / 1e6:.0f}; run it on your machine"
        )
    if factory_of(entry.indicators.model):
        raise ArtifactError(f"{pinned} is of a network that timm does not have; load it on your machine, by its card")
    macs = entry.summary()["macs"]
    if macs > MOST_MACS:
        raise ArtifactError(
            f"{pinned} multiplies {macs / 1e9:.1f} billion times for one picture, the demo takes "
            f"{MOST_MACS / 1e9:.0f} billion; run it on your machine"
        )
    for file in entry.folder.files:
        entry.folder.read(file)
    # The multiplications so far are those that it claims: here they are counted in the network that will run.
    load_supernet(entry.folder, entry.indicators)
    # What every answer of the page reads: an entry that cannot say it is refused here, once.
    _ = entry.metrics, entry.classes, entry.published
    (folder / own / COMPLETE).touch()
    return pinned


def folder_name(pinned: str) -> str:
    """Return what the folder of an entry is called: by its name too, as repositories can share a commit.

    Args:
        pinned: hf-hub:owner/name@commit.
    """
    return pinned.removeprefix(PREFIX).replace("/", "@")


if __name__ == "__main__":
    main()
