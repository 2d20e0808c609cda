"""What `compare` tells: which policies of one entry stand beside each other, and how each differs from the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from accelerate import Accelerator
from torch import Tensor

from limpq_hub.errors import LimpqError, TrainingError, quoted
from limpq_hub.plan.indicators import Indicators
from limpq_hub.plan.option_wording import as_typed
from limpq_hub.plan.plan import Plan
from limpq_hub.plan.policy import Policy
from limpq_hub.train.data.loaders import calibration_batches, epoch_sampler
from limpq_hub.train.data.splits import check_apart, open_split
from limpq_hub.train.launching import command_of
from limpq_hub.train.loop.batches import RunLength
from limpq_hub.train.loop.run import new_accelerator
from limpq_hub.train.measure.contenders import check_contenders, contenders, random_policies_to_correlate
from limpq_hub.train.measure.criteria import indicators_by, needs_images, table
from limpq_hub.train.measure.evaluate import ACCURACY_LABELS, accuracy_of
from limpq_hub.train.measure.given_policies import given_policies
from limpq_hub.train.measure.measured_policies import MeasuredPolicies, say
from limpq_hub.train.measure.measurement_cache import Figures
from limpq_hub.train.measure.pair_costs import PairCosts, costs_of_text, costs_to_text
from limpq_hub.train.measure.rank_correlations import rank_correlation
from limpq_hub.train.measure.same_finetuning import Finetuning
from limpq_hub.train.plan_notes import print_plan_notes
from limpq_hub.train.settings import ComparisonSettings
from limpq_hub.zoo.catalog import find_entry
from limpq_hub.zoo.policy_request import plan_for


class Study:
    """The policies of a comparison, all chosen before the first is trained, and what was measured of them."""

    def __init__(self, settings: ComparisonSettings, given: Mapping[str, str], finetuning: Finetuning | None) -> None:
        """Refuse what cannot be, load the networks and the images, and choose the policies.

        Args:
            given: files of policies that were chosen elsewhere, by their names.
            finetuning: how it takes its images, and what it reads; None where there is none.

        Raises:
            TrainingError: what was measured before was measured with other options, there are several processes,
                no contender is called so or one cannot be at a budget, or a given policy cannot be compared.
            InfeasibleBudgetError: no policy meets one of the budgets.
            UnknownModelError: no entry has this name, or it has no float network.
            DataError: there are no pictures of the kind that is needed, too many cannot be decoded, or a fine-tuning
                would learn those that are measured by.
            PolicyError: the importance that was asked for was not measured, or a given policy is for another network.
            ArtifactError: the file of a given policy is no JSON, or of another format.
        """
        self.settings = settings
        self.accelerator: Accelerator = new_accelerator(settings.device, has_precision_option=True)
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
            # What a fine-tuning would refuse is told before hours of measuring.
            check_apart(data)
            sampler = epoch_sampler(data, finetuning.augmentation, open_split(data, training=True))
            RunLength.of(len(sampler), data.batch_size, finetuning.schedule, processes=1)
        self.measured = MeasuredPolicies(self.accelerator, settings, self.entry, self.indicators, finetuning)
        drawn = calibration_batches(data, self.measured.spec, settings.criterion_images if settings.criteria else 0)
        self.criterion_images = sum(map(len, drawn))
        self.criteria = self._criteria(drawn)
        self._policies = {bitops: self._contenders(bitops) for bitops in settings.bitops}
        say(self._what_is_left())

    def at_budget(self, bitops: str) -> list[Figures]:
        """Return a row per contender: what it is, its figures at each stage, and beside the first's."""
        rows: list[Figures] = []
        policies, stages = self._policies[bitops], self.measured.stages
        first, *_ = policies.values()
        for contender, policy in policies.items():
            row = {"budget": bitops, "contender": contender, **self.described(policy)}
            row |= {stage: measure(policy) for stage, measure in stages.items()}
            if rows:
                row["paired"] = self.measured.paired(policy, first)
            figures = "; ".join(f"{stage}: {_in_words(row[stage])}" for stage in stages)
            say(f"{bitops} {contender}: {figures}")
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

    def _what_is_left(self) -> str:
        """Return how many policies there are, and how many of them are to be fine-tuned."""
        policies = {policy.digest(): policy for of_budget in self._policies.values() for policy in of_budget.values()}
        measured = f"{len(policies)} {'policy' if len(policies) == 1 else 'policies'} to measure"
        if not self.settings.steps:
            return measured
        left = [policy for policy in policies.values() if not self.measured.is_finetuned(policy)]
        return f"{measured}, {len(left)} of them to fine-tune for {self.settings.steps} steps each"

    def _contenders(self, bitops: str) -> dict[str, Policy]:
        """Return the policies to compare at a budget; say which are not there."""

        def left_out(name: str, why: LimpqError) -> None:
            """Say that a policy is not there."""
            say(f"note: {bitops}: {quoted(name)} is left out: {as_typed(str(why))}")

        return contenders(
            self.indicators,
            bitops,
            self.settings.random,
            self.measured.choosing_divergence,
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
                say(f"measuring {name} on {count} images")
                return costs_to_text(table(name, self.entry, images, self.measured.network))

            return costs_of_text(self.measured.cache.figures_of(f"criterion {count} {name}", measure))

        return {name: indicators_by(name, self.entry, table_of) for name in self.settings.criteria}

    def _correlation(self, policies: Sequence[Policy]) -> Figures:
        """Return Spearman's rank correlation of the objective with KL and accuracy, and each policy's figures."""
        every = self.settings.correlate_every
        points = [{**self.described(policy), **self.measured.joint(policy, every=every)} for policy in policies]
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


def _in_words(figures: Figures) -> str:
    """Return how right a network is, and how far from the float network."""
    key = accuracy_of(figures)
    label = ACCURACY_LABELS[key].removesuffix(", %")
    return f"{label} {figures[key]:.2f} %, KL {figures['kl']:.4f} nats"
