"""Reading indicators.json: every fault in the content of a file is refused with its place."""

from __future__ import annotations

import pytest

from limpq_hub.errors import ArtifactFormatError
from limpq_hub.plan.indicator_fields import fields_of


@pytest.fixture
def content(network):
    """A file without a fault: a searched layer and a fixed one."""
    return network({"conv": {2: 0.4, 3: 0.3, 4: 0.1}}, fixed={"head": (8, 8)}).to_json()


MISSING = object()


@pytest.mark.parametrize(
    ("where", "value", "because"),
    [
        ("format", 3, "format 3 is not one of the formats 1 and 2 that this version of limpq-hub reads"),
        ("format", True, "format True is not one of the formats 1 and 2"),
        ("format", MISSING, "format None is not one of the formats 1 and 2"),
        ("model", MISSING, 'indicators: "model" is missing'),
        ("model", "", "\"model\" must be the name of a timm architecture, found ''"),
        ("model", 5, '"model" must be the name of a timm architecture, found 5'),
        ("extra", 1, "indicators: 'extra' is not known in format 2"),
        ("input_size", 0, '"input_size" must be a whole number of at least 1, found 0'),
        ("input_size", "64", '"input_size" must be a whole number of at least 1'),
        ("num_classes", True, '"num_classes" must be a whole number of at least 1, found True'),
        ("provenance", None, '"provenance" must be a JSON object, found None'),
        ("alpha", -1, '"alpha" must be a number of at least 0, found -1'),
        ("alpha", "2", '"alpha" must be a number of at least 0'),
        pytest.param("alpha", 10**400, '"alpha" must be a number of at least 0, found 1000', id="huge alpha"),
        ("candidates", [], '"candidates" must list different bit-widths, found \\[\\]'),
        ("candidates", [4, 3, 2, 2], '"candidates" must list different bit-widths'),
        ("candidates", {"2": 1}, '"candidates" must list different bit-widths'),
        ("candidates", [4, 3, 2, 5], "layer 'conv', weight steps: no step at 5 bits, which is a candidate"),
        ("candidates", [4, 3], "layer 'conv', weight steps: a step at '2' bits, which is not a candidate"),
        ("candidates", [4.0, 3, 2], '"candidates" must list different bit-widths, found \\[4.0, 3, 2\\]'),
        ("layers", {}, '"layers" must list at least one layer by name'),
        ("layers", [], '"layers" must list at least one layer by name'),
        ("layers/conv", 3, "layer 'conv': must be a JSON object, found 3"),
        ("layers/conv/macs", 0, "layer 'conv': \"macs\" must be a whole number of at least 1, found 0"),
        ("layers/conv/macs_limpq", 1.5, "layer 'conv': \"macs_limpq\" must be a whole number"),
        ("layers/conv/weights", -1, "layer 'conv': \"weights\" must be a whole number"),
        ("layers/conv/inputs", None, "layer 'conv': \"inputs\" must be a whole number of at least 1, found None"),
        ("layers/conv/weights", 0, "layer 'conv': \"weights\" must be a whole number of at least 1, found 0"),
        ("layers/conv/product", True, "layer 'conv': a product of activations has no weights, found 1"),
        ("layers/conv/product", 1, "layer 'conv': \"product\" must be true or false, found 1"),
        ("layers/conv/offset", None, "layer 'conv': \"offset\" must be true or false, found None"),
        ("per_channel", "yes", "\"per_channel\" must be true or false, found 'yes'"),
        ("layers/conv/signed", 0, "layer 'conv': \"signed\" must be true or false, found 0"),
        ("layers/conv/fixed", MISSING, "layer 'conv': \"fixed\" is missing"),
        ("layers/conv/fixed", {"weight": 8, "activation": 8}, "layer 'conv': '(weight|activation)_steps' is not known"),
        ("layers/conv/weight_magnitude", 0.5, "layer 'conv': 'weight_magnitude' is not known in format 2"),
        ("layers/conv/weight_steps", MISSING, "layer 'conv': \"weight_steps\" is missing"),
        ("layers/conv/weight_steps", [1], "layer 'conv', weight steps: must give a step for each bit-width"),
        (
            "layers/conv/activation_steps/3",
            MISSING,
            "layer 'conv', activation steps: no step at 3 bits, which is a cand",
        ),
        (
            "layers/conv/activation_steps/03",
            1.0,
            "layer 'conv', activation steps: a step at '03' bits, which is not a ca",
        ),
        ("layers/head/fixed", None, "layer 'head': \"(weight|activation)_steps\" is missing"),
        ("layers/head/fixed", 8, 'layer \'head\': "fixed" needs "weight" and "activation" bits, found 8'),
        ("layers/head/fixed/weight", 9, "layer 'head': \"fixed\": weight bits of 9 cannot be"),
        ("layers/head/stride", 1, "layer 'head': 'stride' is not known in format 2"),
    ],
)
def test_a_fault_is_refused_with_its_place(content, where, value, because):
    *path, key = where.split("/")
    parent = content
    for part in path:
        parent = parent[part]
    if value is MISSING:
        del parent[key]
    else:
        parent[key] = value
    with pytest.raises(ArtifactFormatError, match=f"^{because}"):
        fields_of(content)


@pytest.mark.parametrize("content", [None, [], 1, "indicators"])
def test_json_that_is_no_object_is_not_indicators(content):
    with pytest.raises(ArtifactFormatError, match=r"^indicators are a JSON object, found"):
        fields_of(content)
