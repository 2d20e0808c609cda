"""The words on the page: what each term means, and what is simulated and what is real."""

from __future__ import annotations

import html

from limpq_hub.plan.costs import FLOAT
from limpq_hub.plan.importance import IMPORTANCE_WORDS, Importance
from limpq_hub.plan.layer_bits import LayerBits

TITLE = "How many bits does each layer need?"
INTRODUCTION = (
    "A network computes with numbers, and numbers can be short. Move the slider: an exact search gives each layer of "
    "the network as many bits as it needs within your budget. Then see what the shorter numbers do to a picture."
)
PAPER = "Mixed-Precision Neural Network Quantization via Learned Layer-wise Importance"
AUTHORS = ("Chen Tang", "Kai Ouyang", "Zhi Wang", "Yifei Zhu", "Wen Ji", "Yaowei Wang", "Wenwu Zhu")
YEAR = 2022
_PAPER_PAGE, _CODE_PAGE = "https://arxiv.org/abs/2203.08368", "https://github.com/1hunters/LIMPQ"
LINKS = (
    f"<p id='links'>The method is LIMPQ, ECCV {YEAR}: "
    f"<a href='{_PAPER_PAGE}' target='_blank' rel='noopener'>paper</a>, "
    f"<a href='{_CODE_PAGE}' target='_blank' rel='noopener'>its authors' code</a>; how to cite is under About.</p>"
)
CITATION = f"""
### To cite
```bibtex
@inproceedings{{limpq,
  title     = {{{PAPER}}},
  author    = {{{" and ".join(AUTHORS)}}},
  booktitle = {{European Conference on Computer Vision (ECCV)}},
  year      = {{{YEAR}}}
}}
```
"""

# Terms by what the page calls them; shown when the pointer rests on one or it is tapped, and listed in the last tab.
TERMS = {
    "BitOps": "Bit operations of one image: each layer's multiplications times its weight bits times its activation "
    "bits. G means 1,000,000,000.",
    "weights": "The numbers that a network has learned. Fewer bits each make a smaller file.",
    "activations": "The numbers that flow from layer to layer while a picture is looked at.",
    "bits": "How long each number is: 2 bits tell 4 values apart, 8 bits 256.",
    "MACs": "Multiply-accumulate steps of a layer for one image: how much it has to compute.",
    "size": "Bytes of all quantized weights. MB means 1,000,000 bytes. Step sizes, biases and BatchNorm come on top.",
    "policy": "Which layer gets how many bits, for weights and for activations.",
    "uniform": "The same bits in every layer: the most that fit the budget.",
    "uniform, filled up": "Uniform, then one layer after the other raised by a bit until the budget is full.",
    "reversed": "A search in the steps of the layers, turned round: it should do badly.",
    "random": "Bits drawn at random, then raised until the budget is full.",
    "float": "The network before quantization: 32-bit floating-point numbers.",
    "top-1": "Share of the validation images whose first answer is right, in percent.",
    "agreement": "Share of the pictures in which a network finds the class most likely that the float network does.",
    "KL": "Kullback-Leibler divergence: how far the probabilities of a network are from those of the float one, in "
    "nats, as a mean over pictures. 0 is the same.",
    "joint": "Weights trained once for all policies together; not fine-tuned for this one.",
    "fine-tuned": "Weights trained further for exactly this policy.",
    "learned steps": "The importance of a layer at some bits is the step that it learned there: large where these bits "
    "hurt.",
    "coupled steps": "The importance of a layer at a pair of weight and activation bits is the root of the sum of "
    "squares of the steps that it learned at these, that of the weights times alpha.",
    "measured pairs": "The importance of a layer at a pair of weight and activation bits is the KL from the float "
    "network that was measured with this layer alone at this pair.",
    "objective": "What the search makes small: the importance of all layers, learned or coupled steps or measured "
    "pairs, added up; the page says which. Lower is better.",
    "lower bound": "A value that no policy within the budget and the choices can go below. Equal to the objective: "
    "none scores better.",
    "step": "The distance between neighbouring values that a short number can take. Each layer learned one for each "
    "number of bits.",
    "method": "How the optimum was proven: through all choices that can matter (enumeration, dynamic programme) or by "
    "an integer solver (HiGHS). Each is exact.",
    "alpha": "How much the steps of weights count beside those of activations. Measured pairs have none.",
    "pins": "Bits that you give to some layers yourself; the search decides the others.",
    "frontier": "The best policy at each budget: none that the search may choose lies below.",
    "fixed": "The search leaves the bits of this layer as they are: as a rule those of the first and the last are 8.",
    "in float": "This layer is not quantized: its numbers have 32 bits, with a floating point.",
}

WHAT_IS_REAL = """
### Real
- **The search.** It runs here, while you move the slider, and each answer is proven: no policy within the budget has a
  lower objective, of those that hold the bits of a layer as near each other as the model wants. The objective adds up
  how sensitive the layers turned out to be, by learned steps, as in the paper, by both steps of a layer together, or by
  measured pairs of bits: which of these stands under the model and in the proof. It stands in for accuracy, and the
  policy with the lowest is not always the most accurate one.
- **The size.** It is what the weights take at 2 to 8 bits each. The files of published policies are smaller still: an
  entropy code takes fewer bits than the policy has.
- **The accuracy.** Top-1 is that of the entry: measured on the validation images of its data set, of one training run
  each, ± one standard error of so many images. Where it says "about", it lies on a line between two measured budgets;
  where nothing was measured, it says so.
  Quantized networks can be above the float one: they were trained on from its weights.
- **The contrast.** Two policies are always compared with weights that were trained alike, the joint ones; the weights
  that were fine-tuned for a policy stand in the headline, and are what runs in integers.
- **The integers.** The network is written as a file, its integers are read back and compared bit for bit, and it is
  timed here, on this machine, beside the float network in the same runtime. A CPU multiplies 8 bits whatever the
  policy says: fewer bits make the file smaller, and pay in time on hardware that is made for them.

### Simulated
- **The arithmetic of the three predictions.** They are made by *fake quantization*: floating-point arithmetic on values
  that lie exactly on their integer grids. The predictions are those of the quantized network. BitOps count work, not
  milliseconds.

### Your picture
It is looked at on this server, at the input size of the network, and deleted within 70 minutes. Nothing is sent
anywhere else.
"""


def term(name: str, label: str | None = None) -> str:
    """Return HTML for a term that says what it means when the pointer rests on it, or when it is tapped or focused.

    Args:
        label: how it is written here; its name if None.
    """
    # Focusable: touch and keyboard have no pointer to rest; the style sheet shows the title of what has the focus.
    return f'<abbr tabindex="0" title="{html.escape(TERMS[name])}">{html.escape(label or name)}</abbr>'


def bits_by(importance: Importance) -> str:
    """Return HTML for the bits that a search chose by an importance."""
    return f"bits by {term(IMPORTANCE_WORDS[importance])}"


def chosen_or_kept(fixed: LayerBits | None) -> str:
    """Return whose choice the bits of a layer are.

    Args:
        fixed: as `LayerCost` has it.
    """
    if fixed is None:
        return "chosen by the search"
    if fixed == FLOAT:
        return "always in float"
    bits = f"{fixed.weight}" if fixed.weight == fixed.activation else f"{fixed.weight} / {fixed.activation}"
    return f"always {bits} bits"


def glossary() -> str:
    """Return HTML of all terms with what they mean."""
    rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in TERMS.items())
    return f"<dl class='glossary'>{rows}</dl>"
