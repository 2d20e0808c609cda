"""What the figures of a comparison depend on: where any of it is another, they are measured anew."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from limpq_hub.plan.input_file import read_regular
from limpq_hub.train.loop.provenance import weights_record
from limpq_hub.train.recipe import path_of
from limpq_hub.train.settings import ComparisonSettings
from limpq_hub.zoo.entry import Entry
from limpq_hub.zoo.entry_tensors import SUPERNET
from limpq_hub.zoo.float_file import float_file_of

# Options that no figure depends on, or that its key names.
_MAY_CHANGE = {"bitops", "random", "correlated", "correlate_every", "steps", "output", "workers", "threads"}
_MAY_CHANGE |= {"criteria", "criterion_images", "contenders", "calibrated", "correlate_over"}


def what_figures_depend_on(settings: ComparisonSettings, entry: Entry) -> Mapping[str, object]:
    """Return the options and the digests of all files that a figure depends on."""
    record = {name: value for name, value in settings.invocation.options.items() if name not in _MAY_CHANGE}
    if not settings.data.unlabelled:
        record.pop("unlabelled", None)  # as in what was measured before there was this option
    record |= weights_record(settings.invocation)
    files = entry.folder.config["files"]
    record |= {
        name: files[name]["sha256"] for name in (SUPERNET, float_file_of(entry.folder)) if name and name in files
    }
    if settings.recipe:
        record["recipe_sha256"] = hashlib.sha256(read_regular(path_of(settings.recipe))).hexdigest()
    return record
