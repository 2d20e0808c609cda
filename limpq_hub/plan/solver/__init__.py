"""The exact optimum of one search: a multiple-choice knapsack, solved in one of four ways.

**The problem.** The layers of a network fall into groups; the layers of a group get the same bits. Each group has
options, a pair of bit-widths each, and takes exactly one of them. An option costs the importance that it loses, and
uses an amount of every limited resource (BitOps, bytes, latency). Wanted is the choice of least total cost that stays
within every limit:

    minimize  sum over groups of costs[group, option taken]
    such that sum over groups of coefficients[constraint, group, option taken] <= limits[constraint]

`programme.py` holds this problem as `Programme`; `solving.py` takes the first way that suits it, and returns a
`Solution` (`solution.py`):

1. *Enumeration near a bound* (`enumeration.py`): one or two constraints. Milliseconds, and most searches.
2. *Dynamic programme* (`dynamic_programme.py`): one constraint whose sums are few whole numbers. It is taken where the
   enumeration would keep too many states, and for a frontier, since one table answers every limit.
3. *A heuristic choice, then the enumeration within its gap* (`near_choice.py`): where too many choices are near the
   bound, a local search finds a good one. It is the best if it costs no more than the bound; else the enumeration, of
   more states, looks within its gap alone, and has none to guess.
4. *PuLP with HiGHS* (`integer_programme.py`, which `quiet_highs.py` runs): everything else, that is three constraints
   or more, coefficients whose sums exceed what a float64 holds exactly, or what is left where there are still too many
   states: HiGHS then gets the options near the bound alone.

**When the time is over** there is no answer, unless a gap was allowed: then the better of the choices found, if it is
within the gap of the better of the bounds proven. All loops look at one deadline; the enumeration may take half of the
time, trying three tenths of the rest.

**Why each is exact.** Coefficients are whole numbers, and the first two ways compute with a *scaled programme*
(`scaled_programme.py`) whose costs are whole numbers as well: each sum is exact in float64, so comparing two sums is
too. Costs are rounded once, to 2^-50 of the largest sum that they can have. The enumeration proves that every choice
left out costs more than the one returned, and so does a near choice that reaches the bound; the dynamic programme
visits every reachable sum. HiGHS works with tolerances: it is run to a gap of zero, its choice is added up again in
whole numbers, and a choice over a limit is forbidden and the programme solved again; its choice is within 1e-9 of the
largest cost of an option. The first two ways tell equal costs apart by a rule (`enumeration.cheapest`); a near choice
that reaches the bound, and HiGHS, are any one of them, always the same.

**Where one option dwarfs the rest,** a step that diverged for instance, the others are rounded coarsely beside it, and
HiGHS no longer sees them. But an option that alone costs more above the least of its group than a whole choice does
above the least of all groups is in no better choice. So where such options make the scale coarse, they are left out and
the programme is solved again on a finer one, until costs are rounded to 2^-36 of the most that the options left can add
up to; for HiGHS, until the largest of them is at most twice what its choice costs above the least.

**Terms**, and the shapes of arrays:

- *costs*, [groups, options]; *coefficients*, [constraints, groups, options]; *limits*, [constraints]. A group with
  fewer options than the widest one is padded with options of infinite cost.
- *choice*, [groups]: the number of the option that each group takes.
- *prices*, [constraints], at least 0: Lagrange multipliers. Instead of keeping a limit, each unit of the resource is
  paid for at its price. Each group then takes its cheapest option on its own, and what all of them pay, less the price
  of the limits, is the *bound*: no choice within the limits costs less. `prices.py` finds the prices of the largest
  bound.
- *priced costs* and *reduced costs*, [groups, options]: costs plus the priced coefficients, and how much of that an
  option takes above the cheapest option of its group. A choice costs the bound, plus its reduced costs, plus the price
  of what it leaves unused of each limit.
- *gap*: how much a choice costs above the bound. Within a gap, only options of at most that reduced cost take part,
  and reduced costs add up to at most the gap. The gap is widened until a choice lies within it: then none is better.
- *states* (`states.py`): partial choices, of the first few groups for instance, as columns: `sums` [constraints,
  states], `costs` [states], `reduced_costs` [states]. One that uses as much as another and costs more is *dominated*
  and left out.
- *meeting in the middle* (`meet_in_the_middle.py`): the states of the first half of the groups and of the second half
  are enumerated apart, then paired: 2 x sqrt(n) states instead of n.

**What it leaves out: terms between layers.** Two layers that err together may lose more, or less, than the sum of what
each loses alone. With a cost for the options of two groups together the objective is quadratic, and no knapsack. It
would be solved exactly with a variable of its own for each such product of two choices, at most either choice and at
least their sum less one, by HiGHS; or, where only neighbours in one chain have such terms, by the dynamic programme
with the option of the last group as part of its state. The ways above give a bound of it: every such term is put at the
least that it can be. It was not built: with measured terms of neighbouring layers, random policies of a ResNet-18 are
ranked worse than without (training/results/resnet18.tiny_imagenet/importance.md).

Source: Sinha and Zoltners, "The Multiple-Choice Knapsack Problem", Operations Research 27, 1979, for the problem and
its bound; Horowitz and Sahni, "Computing Partitions with Applications to the Knapsack Problem", Journal of the ACM 21,
1974, for meeting in the middle and dominated states; Kellerer, Pferschy and Pisinger, "Knapsack Problems", 2004,
chapter 11, for the dynamic programme.
"""
