"""The chosen policy in integers beside the float network: what each answers, and how long it takes on this machine."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from _class_names import short_names
from _held import Held
from _model_cache import Networks, Weights
from _zoo import entry_of

from limpq_hub.plan.plan import Plan

if TYPE_CHECKING:
    from _ways import Ways
    from PIL.Image import Image

    from limpq_hub.zoo.network import NetworkSpec

ROUNDS, WARM_UP = 11, 2
# As `Ways.held_bytes` counts them.
MOST_EXPORT_BYTES = 900_000_000

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Timed:
    """What one way to compute a network makes of a picture, and how long it takes.

    Attributes:
        runtime: what computes it, with its version.
        integers: whether it is the policy, in integers; else the float network.
        milliseconds: for one picture, the median of the rounds.
        file_bytes: of the file that it runs from; None where there is none.
        answer: what the page calls the most likely class.
        class_id: of it.
        probability: of it, 0..1.
    """

    runtime: str
    integers: bool
    milliseconds: float
    file_bytes: int | None
    answer: str
    class_id: str
    probability: float


@dataclass(frozen=True)
class IntegerRun:
    """A picture as the float network and the integers see it.

    Attributes:
        rows: the ways to compute, which took turns; the float network in torch first.
        weights: of the policy, "finetuned" where there are such.
        size_bytes: of the weights, stored in the bits of the policy.
        in_float, checked, missing: as `Ways` has them.
        threads: of each runtime.
        cpu: name of the processor.
    """

    rows: tuple[Timed, ...]
    weights: Weights
    size_bytes: int
    in_float: tuple[int, int]
    checked: str | None
    missing: str | None
    threads: int
    cpu: str


class IntegerNetworks:
    """Policies in integers, each exported once; a bounded number of bytes is held."""

    def __init__(self, networks: Networks, most_bytes: int = MOST_EXPORT_BYTES) -> None:
        self._networks = networks
        self._ways: Held[tuple[str, str], Ways] = Held(most_bytes, lambda ways: ways.held_bytes)
        # One at a time: two that are timed at once would slow each other down.
        self._lock = threading.Lock()

    def has(self, model: str, plan: Plan) -> bool:
        """Return whether a policy is exported already."""
        return (model, plan.policy.digest()) in self._ways

    def look(self, picture: Image, model: str, plan: Plan, report: Report) -> IntegerRun:
        """Return what the float network and the integers of a policy see in a picture, and how long they take.

        Args:
            picture: RGB, of any size.
            report: called with the share that is done, 0..1, and what comes next; what it raises ends the work.

        Raises:
            LimpqError: a file of the entry is damaged, or the picture is too long and narrow.
        """
        # Here, so that the page is up before torch is needed.
        import torch

        from limpq_hub.deploy.processor import cpu_name
        from limpq_hub.pictures.preparation import preparation_of
        from limpq_hub.zoo.network import NetworkSpec

        entry = entry_of(model)
        spec = NetworkSpec.from_config(entry.folder.config, entry.name)
        image = preparation_of(spec)(picture)[None]
        with self._lock:
            ways = self._get(model, plan, spec, report)
            report(0.8, "Taking turns")
            times: list[list[float]] = [[] for _ in ways.each]
            with torch.inference_mode():
                for _ in range(WARM_UP + ROUNDS):
                    for way, of_way in zip(ways.each, times, strict=True):
                        began = time.perf_counter()
                        way.run(image)
                        of_way.append(1000 * (time.perf_counter() - began))
                best = [way.run(image)[0].softmax(-1).max(-1) for way in ways.each]
        names, classes = short_names(entry.classes), [entry.classes[int(answer.indices)]["id"] for answer in best]
        rows = tuple(
            Timed(
                way.runtime,
                way.integers,
                statistics.median(of_way[WARM_UP:]),
                way.file_bytes,
                names[class_id],
                class_id,
                float(answer.values),
            )
            for way, of_way, class_id, answer in zip(ways.each, times, classes, best, strict=True)
        )
        return IntegerRun(
            rows=rows,
            weights=ways.weights,
            size_bytes=plan.size_bytes,
            in_float=ways.in_float,
            checked=ways.checked,
            missing=ways.missing,
            threads=torch.get_num_threads(),
            cpu=cpu_name(),
        )

    def _get(self, model: str, plan: Plan, spec: NetworkSpec, report: Report) -> Ways:
        """Return the ways to compute a policy; exports it where they are not in the cache."""
        from _ways import ways_of

        key = (model, plan.policy.digest())
        ways = self._ways.get(key)
        if ways is None:
            ways = ways_of(model, plan.policy, spec, self._networks, report)
            self._ways.put(key, ways)
        return ways
