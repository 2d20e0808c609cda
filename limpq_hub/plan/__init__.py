"""DECIDE the bits: budgets, costs, indicators, policies and the exact search. No torch, no network.

## The search

The objective is a sum over the searched layers, lower is better; an entry says what it adds up (`limpq info`). With
`importance="learned"`, the method's own, that is the learned step size of the activations at their bits, plus alpha
times that of the weights. Bits that learned a smaller step than the next more bits did are left out
(`limpq_hub.Plan.excluded`), unless `candidates=` leaves a layer no others. One option per layer within a budget is a
multiple-choice knapsack, and `limpq_hub.plan.solver` solves it to a proven optimum, in milliseconds. Every answer is
recounted in whole numbers against its limits. `limpq_hub.Plan.way` says how it was found, `limpq_hub.Plan.bound` is
what no policy within the budget and the choices can go below.

With `importance="coupled"` the two terms of a layer are not added up: the root of the sum of their squares is, over
the layers. Where one of the two is large, fewer bits for the other lose little. Nothing is left out: a step that is
smaller than one of more bits counts as that one. `apart=1` lets the weight and the activation bits of a layer differ
by 1 at most, `apart=0` makes them equal, as most hardware has them.

With `importance="measured"` the objective adds up something else: for each layer the KL divergence from the float
network, in nats, with that layer alone at its pair of bit-widths and all others at bits of their own: what weights and
activations of a layer do together need not be a sum. The end of joint training measures it, and `limpq measure MODEL
--images FOLDER` does on any pictures without labels, and writes an `indicators.json` to search in.
`limpq_hub.quant.pair_divergence` says what is run, and `training/results/resnet18.tiny_imagenet/importance.md` which
bits of the others choose best.

`limpq_hub.Plan.certificate` says how far the second best policy and the best uniform one lie behind: in the objective,
and in nats where pairs were measured. Both are exact: `limpq_hub.plan.certification` tells how.

The proof is about the objective. How well the objective ranks policies was measured:
`training/results/resnet18.tiny_imagenet/proof.md`.

## What may be asked

- Constraints hold together: `bitops=`, `size=` or `compression=`, `activation_memory=` (the largest layer input),
  `latency=(table, limit)` and `energy=(table, limit)`, the table a dict or a CSV file with the columns
  `layer,weight_bits,activation_bits,time` (or `energy` as the last); `limpq measure-latency` writes one in
  milliseconds, for a limit such as "2ms"; a published table may be a `.npy` file, [layers, 8, 8].
  `limpq_hub.plan.constraints` says how to add a kind.
- `pin={"layer4.*": (4, 4)}`, `exclude=["layer1.*"]` (these keep their most bits, unless they are pinned),
  `tie=[["layer1.*"], ...]` (the same bits for all of a group); `candidates=[2, 4, 6]` or `{"layer4.*": [4, 6]}`,
  `alpha=`, `importance=`, `apart=`. A pattern that matches nothing is an error; of two pins, or two candidates, that
  match a layer the later one wins.
- A budget that cannot be met is an error with the least one that can; where two constraints only conflict together,
  with the least change of either. One that every policy meets is told in `limpq_hub.Plan.notes`, with what the most
  bits take.
- `time_limit_s=` holds for all that one answer takes. Where the proof does not end in time, the error says how near to
  the bound the best policy found is; `allow_gap="1%"` takes one so near. `limpq_hub.Plan.optimal` is then False.
- Numbers of a table are what they are written as; of computed floats the last digits are noise, and do not decide
  (`limpq_hub.plan.constraints.layer_table`).
- Of policies that are equally good (to 2^-50 of the most that all layers can lose), the one with the least BitOps (or
  of what else is limited) is taken, then the one with the fewest bits in the first layer by name; where
  `limpq_hub.Plan.way` is "bound" or "HiGHS", any of them, always the same.

In a shell: `limpq search resnet18 --bitops 2G --pin 'layer4.*=4,4'`.

## How it counts

- BitOps of a layer = MACs x weight bits x activation bits, from the real output sizes; G = 1e9. First and last layer
  stay at 8/8 bits and are counted. `counting="limpq"` counts as the published script does.
- A product of two activations, as in attention, counts MACs x bits of the one x bits of the other, and no weights. What
  stays in float counts 32 x 32 for each MAC: `limpq_hub.Plan.float_bitops`, and its share under the table of a plan.
- `size` is that of all convolution and linear weights; MB = 1e6 bytes, MiB = 2**20. Step sizes, biases and BatchNorm
  come on top: `limpq info` shows the real bytes of each file.
"""
