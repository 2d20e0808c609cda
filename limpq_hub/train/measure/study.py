"""What `compare` measures: policies of one entry without training, jointly trained and fine-tuned, each once."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor, nn

from limpq_hub.errors import LimpqError, TrainingError, quoted
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.input_file import read_regular
from limpq_hub.plan.jsonfile import write_bytes
from limpq_hub.plan.option_wording import as_typed
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.quant.convert import select_policy
from limpq_hub.quant.policy_statistics import Statistics, statistics_setter
from limpq_hub.train.data.loaders import calibration_batches, epoch_sampler, validation_loader
from limpq_hub.train.data.network_classes import classes_of_entry
from limpq_hub.train.data.splits import open_split
from limpq_hub.train.launching import command_of
from limpq_hub.train.loop.batches import RunLength
from limpq_hub.train.loop.run import new_accelerator
from limpq_hub.train.measure.calibrated_network import calibrated_network
from limpq_hub.train.measure.contenders import check_contenders, contenders, random_policies_to_correlate
from limpq_hub.train.measure.criteria import indicators_by, needs_images, table
from limpq_hub.train.measure.divergence import Divergence
from limpq_hub.train.measure.evaluate import ACCURACY_LABELS, OfImages, accuracy_of, evaluate_each, log_probabilities
from limpq_hub.train.measure.figure_dependence import what_figures_depend_on
from limpq_hub.train.measure.given_policies import given_policies
from limpq_hub.train.measure.measurement_cache import Figures, MeasurementCache
from limpq_hub.train.measure.pair_costs import PairCosts, costs_of_text, costs_to_text
from limpq_hub.train.measure.paired import paired
from limpq_hub.train.measure.rank_correlations import rank_correlation
from limpq_hub.train.measure.recalibration_images import recalibration_images
from limpq_hub.train.measure.same_finetuning import Finetuning, finetune_policy
from limpq_hub.train.method.fetched_weights import fetched_content
from limpq_hub.train.method.networks import float_network_of
from limpq_hub.train.plan_notes import print_plan_notes
from limpq_hub.train.settings import ComparisonSettings
from limpq_hub.zoo.anchors import statistics_of_entry
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.checkpoint import load_checkpoint
from limpq_hub.zoo.entry_folder import load_supernet
from limpq_hub.zoo.folder import open_local_folder
from limpq_hub.zoo.network import NetworkSpec
from limpq_hub.zoo.policy_request import plan_for
from limpq_hub.zoo.tensors import tensors_from_bytes, tensors_to_bytes

_CHOOSING_IMAGES = 2048
# They correct the BatchNorm of a network that is converted without training, or whose joint training kept it.
_CONVERSION_IMAGES = 256


class Study:
    """Policies of one entry, measured on the validation images; what was measured before is not measured again."""

    def __init__(self, settings: ComparisonSettings, given: Mapping[str, str], finetuning: Finetuning | None) -> None:
        """Load the networks and the images.

        Args:
            given: files of policies that were chosen elsewhere, by their names.
            finetuning: how it takes its images; None where there is none.

        Raises:
            TrainingError: what was measured before was measured with other options, there are several processes,
                no contender is called so or one cannot be at a budget, or a given policy cannot be compared.
            InfeasibleBudgetError: no policy meets one of the budgets.
            UnknownModelError: no entry has this name, or it has no float network.
            DataError: there are no pictures of the kind that is needed, or too many cannot be decoded.
            PolicyError: the importance that was asked for was not measured, or a given policy is for another network.
            ArtifactError: the file of a given policy is no JSON, or of another format.
        """
        self.settings = settings
        self.accelerator: Accelerator = new_accelerator(settings.device)
        if self.accelerator.num_processes > 1:
            raise TrainingError(f"a comparison runs as one process: start it with {command_of('compare')}")
        data = settings.data
        self.entry = find_entry(settings.model)
        for bitops in settings.bitops:
            # One that cannot be is told before hours of measuring.
            plan = plan_for(self.entry, bitops=bitops, importance=settings.importance)
            print_plan_notes(self.accelerator, plan, bitops)
        self.indicators = self.entry.indicators.using(settings.importance)
        self.given = given_policies(given, self.entry, settings.bitops)
        check_contenders(
            settings.contenders,
            self.indicators,
            settings.bitops[0],
            settings.random,
            settings.criteria,
            self.given,
        )
        if finetuning is not None:
            # A batch or a step that they do not fill is told before hours of measuring.
            sampler = epoch_sampler(data, finetuning.augmentation, open_split(data, training=True))
            RunLength.of(len(sampler), data.batch_size, finetuning.schedule, processes=1)
        ids = classes_of_entry(self.entry, data)
        self.statistics = statistics_of_entry(self.entry.folder)
        image_count = settings.calibrate_images
        if image_count is None and self.statistics == "corrected":
            image_count = _CONVERSION_IMAGES
        self.calibrate_images = recalibration_images(self.statistics, image_count)
        self.network = float_network_of(self.entry, settings.weights)
        depends_on = {
            **what_figures_depend_on(settings, self.entry),
            **fetched_content("weights", settings.weights, self.network),
            "calibrate_images": self.calibrate_images,
        }
        self.measured = MeasurementCache(settings.output / "measured.json", depends_on)
        self.spec = spec = NetworkSpec.from_config(self.entry.folder.config, self.entry.name)
        device = self.accelerator.device
        self.supernet = load_supernet(self.entry.folder, self.indicators).to(device)
        self.network.to(device)
        images = calibration_batches(data, spec, self.calibrate_images, device)
        # Images that were asked for recalibrate an entry without statistics of its own, too.
        set_by_images: Statistics = "corrected" if self.statistics == "corrected" else "measured"
        self._statistics: Statistics = set_by_images if images else "kept"
        self._set_statistics_ = statistics_setter(self._statistics, images, self.network)
        self.loaders = {
            every: validation_loader(data, spec, every=every, classes=ids) for every in (1, settings.correlate_every)
        }
        _say("measuring the float network on the validation images")
        self.references = {
            every: log_probabilities(self.accelerator, self.network, loader) for every, loader in self.loaders.items()
        }
        drawn = calibration_batches(data, spec, settings.criterion_images if settings.criteria else 0)
        self.criterion_images = sum(map(len, drawn))
        self.criteria = self._criteria(drawn)
        self._policies = {bitops: self._contenders(bitops) for bitops in settings.bitops}
        _say(self._what_is_left())

    def at_budget(self, bitops: str) -> list[Figures]:
        """Return a row per contender: what it is, its figures at each stage, and beside the first's."""
        rows: list[Figures] = []
        stages = {
            **({"calibrated": self.calibrated} if self.settings.calibrated else {}),
            "joint": self.joint,
            **({"finetuned": self.finetuned} if self.settings.steps else {}),
        }
        policies = self._policies[bitops]
        first, *_ = policies.values()
        for contender, policy in policies.items():
            row = {"budget": bitops, "contender": contender, **self.described(policy)}
            row |= {stage: measure(policy) for stage, measure in stages.items()}
            if rows:
                row["paired"] = {
                    stage: paired(self._of_images(stage, policy), self._of_images(stage, first)) for stage in stages
                }
            figures = "; ".join(f"{stage}: {_in_words(row[stage])}" for stage in stages)
            _say(f"{bitops} {contender}: {figures}")
            rows.append(row)
        return rows

    def correlations(self) -> dict[str, Figures]:
        """Return the rank correlations of the objective with what was measured, and the points behind them."""
        settings = self.settings
        drawn = random_policies_to_correlate(
            self.indicators, settings.bitops[0], settings.correlated, settings.correlate_over
        )
        return {name: self._correlation(policies) for name, policies in drawn.items()}

    def described(self, policy: Policy) -> Figures:
        """Return what a policy costs, and its objective."""
        plan = Plan.of_policy(self.indicators, policy)
        mean_weight_bits, mean_activation_bits = plan.mean_bits()
        return {
            "policy_sha256": policy.digest(),
            "bitops": plan.bitops,
            "objective": plan.objective,
            "mean_weight_bits": round(mean_weight_bits, 3),
            "mean_activation_bits": round(mean_activation_bits, 3),
        }

    def calibrated(self, policy: Policy) -> Figures:
        """Return the figures of the float network converted to a policy without any training."""

        def measure() -> Figures:
            """Return the figures where the cache does not have them."""
            model = calibrated_network(self.network, policy, self.indicators, self._conversion_images)
            return self._figures(model.to(self.accelerator.device), 1, beside)

        beside = self._file_of_images("calibrated", policy)
        return self.measured.figures_of(f"calibrated {policy.digest()}", measure, beside=beside)

    def joint(self, policy: Policy, *, every: int = 1) -> Figures:
        """Return the figures of the jointly trained network at a policy, its statistics set by images if there are."""

        def measure() -> Figures:
            """Return the figures where the cache does not have them."""
            model = select_policy(self.supernet, policy).eval()
            self._set_statistics_(model)
            return self._figures(model, every, beside)

        beside = self._file_of_images("joint", policy) if every == 1 else None
        return self.measured.figures_of(f"joint {every} {policy.digest()}", measure, beside=beside)

    def finetuned(self, policy: Policy) -> Figures:
        """Return the figures of the policy after the same fine-tuning as all others."""

        def measure() -> Figures:
            """Fine-tune the policy, and return the figures, where the cache does not have them."""
            folder = finetune_policy(self.settings, self.entry, policy)
            model, _ = load_checkpoint(open_local_folder(folder, "checkpoint"))
            return self._figures(model.to(self.accelerator.device), 1, beside)

        key, beside = self._finetuning(policy)
        return self.measured.figures_of(key, measure, beside=beside)

    def _what_is_left(self) -> str:
        """Return how many policies there are, and how many of them are to be fine-tuned."""
        policies = {policy.digest(): policy for of_budget in self._policies.values() for policy in of_budget.values()}
        measured = f"{len(policies)} {'policy' if len(policies) == 1 else 'policies'} to measure"
        if not self.settings.steps:
            return measured
        left = [policy for policy in policies.values() if not self.measured.has(*self._finetuning(policy))]
        return f"{measured}, {len(left)} of them to fine-tune for {self.settings.steps} steps each"

    def _finetuning(self, policy: Policy) -> tuple[str, Path]:
        """Return under which key a fine-tuned policy is measured, and the file of its images."""
        key = f"finetuned {self.settings.steps} {policy.digest()}"
        return key, self._file_of_images("finetuned", policy)

    def _contenders(self, bitops: str) -> dict[str, Policy]:
        """Return the policies to compare at a budget; say which are not there."""

        def left_out(name: str, why: LimpqError) -> None:
            """Say that a policy is not there."""
            _say(f"note: {bitops}: {quoted(name)} is left out: {as_typed(str(why))}")

        return contenders(
            self.indicators,
            bitops,
            self.settings.random,
            self._choosing_divergence,
            self.criteria,
            given=self.given,
            only=self.settings.contenders,
            left_out=left_out,
        )

    def _criteria(self, images: Sequence[Tensor]) -> dict[str, Indicators]:
        """Return the indicators measured by each criterion; each table is measured once."""
        count = sum(map(len, images))

        def table_of(name: str) -> PairCosts:
            """Return the table of a criterion, from the cache where it was measured before."""
            if not needs_images(name):
                return table(name, self.entry, images)

            def measure() -> Figures:
                """Return the table as the cache keeps it."""
                _say(f"measuring {name} on {count} images")
                return costs_to_text(table(name, self.entry, images))

            return costs_of_text(self.measured.figures_of(f"criterion {count} {name}", measure))

        return {name: indicators_by(name, self.entry, table_of) for name in self.settings.criteria}

    @cached_property
    def _conversion_images(self) -> Sequence[Tensor]:
        """Training images for step sizes and BatchNorm of a network that is converted without training."""
        return calibration_batches(self.settings.data, self.spec, _CONVERSION_IMAGES, self.accelerator.device)

    @cached_property
    def _divergence(self) -> Divergence:
        """Measures the KL divergence of a policy of the supernet on training images."""
        _say(f"choosing the best split by {_CHOOSING_IMAGES} training images")
        images = calibration_batches(self.settings.data, self.spec, _CHOOSING_IMAGES, self.accelerator.device)
        return Divergence(self.supernet, self.network, images, self._statistics)

    def _choosing_divergence(self, policy: Policy) -> float:
        """Return the divergence from the float network on training images, in nats; measured once."""
        figures = self.measured.figures_of(f"choice {policy.digest()}", lambda: {"kl": self._divergence(policy)})
        return float(figures["kl"])

    def _correlation(self, policies: Sequence[Policy]) -> Figures:
        """Return Spearman's rank correlation of the objective with KL and accuracy, and each policy's figures."""
        every = self.settings.correlate_every
        points = [{**self.described(policy), **self.joint(policy, every=every)} for policy in policies]
        keys = ("kl", accuracy_of(points[0]))
        of_criteria = {}
        for name, indicators in self.criteria.items():
            by_criterion = [
                {**point, "objective": Plan.of_policy(indicators, policy).objective}
                for point, policy in zip(points, policies, strict=True)
            ]
            of_criteria[name] = {key: rank_correlation(by_criterion, key) for key in keys}
        correlation = {key: rank_correlation(points, key) for key in keys}
        return {**correlation, **({"criteria": of_criteria} if of_criteria else {}), "points": points}

    def _figures(self, model: nn.Module, every: int, beside: Path | None) -> Figures:
        """Return top-1, agreement and KL to the float network, with standard errors; write those of each image."""
        figures, of_images = evaluate_each(self.accelerator, model, self.loaders[every], self.references[every])
        if beside is not None:
            write_bytes(beside, tensors_to_bytes({"kl": of_images.kl.float(), "right": of_images.right}))
        return figures

    def _file_of_images(self, stage: str, policy: Policy) -> Path:
        """Return where the figures of each image are kept."""
        steps = f"-{self.settings.steps}" if stage == "finetuned" else ""
        return self.settings.output / "of-images" / f"{stage}{steps}-{policy.digest()[:16]}.safetensors"

    def _of_images(self, stage: str, policy: Policy) -> OfImages:
        """Return the figures of each image that were kept for a policy at a stage."""
        path = self._file_of_images(stage, policy)
        tensors = tensors_from_bytes(read_regular(path), str(path))
        return OfImages(tensors["kl"].double(), tensors["right"])


def _say(text: str) -> None:
    """Print a line of progress, at once."""
    print(text, file=sys.stderr, flush=True)


def _in_words(figures: Figures) -> str:
    """Return how right a network is, and how far from the float network."""
    key = accuracy_of(figures)
    label = ACCURACY_LABELS[key].removesuffix(", %")
    return f"{label} {figures[key]:.2f} %, KL {figures['kl']:.4f} nats"
