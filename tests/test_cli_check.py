"""Tests of `limpq check`: what it says of a network, to people and to programmes, and what it refuses."""

import json

import pytest
import timm
from torch import nn

from limpq_hub.cli import main
from limpq_hub.quant.network_check import check_network
from limpq_hub.zoo.meta_network import input_shape_of, network_on_meta


@pytest.fixture
def check(capsys):
    """A function that runs the command and returns (exit code, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["check", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def row_of(out: str, heading: str) -> list[str]:
    """Return the cells of the row of a printed table that begins with a heading."""
    (line,) = [line for line in out.splitlines() if line.startswith(f"│ {heading} ")]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_the_table_sums_what_is_searched_fixed_and_counted(check):
    code, out, err = check("mobilevit_xxs")
    assert code == 0
    assert "mobilevit_xxs at 256 x 256 pixels" in out
    # Beside timm's module list: 35 convolutions and 37 linear layers, two products in each of 9 blocks.
    assert row_of(out, "convolutions")[1:5] == ["35", "34", "195.17M", "47.9 %"]
    assert row_of(out, "linear layers")[1:5] == ["37", "36", "134.01M", "32.9 %"]
    assert row_of(out, "products of activations")[1:] == ["18", "18", "78.18M", "19.2 %", "0", "0.0 %"]
    assert row_of(out, "in all")[1:5] == ["90", "88", "407.36M", "100.0 %"]
    assert "left in float" not in out
    lines = out.splitlines()
    assert "fixed at 8/8 bits: stem.conv, head.fc" in lines
    assert "in float, without MACs: 32 BatchNormAct2d, 21 LayerNorm, the softmax of attention" in lines
    assert "MACs: 407.36M (407,364,096), equal to those of PyTorch's flop counter (407,364,096)" in lines
    assert "BitOps: from 2.08G (all that is searched at 2 bits) to 14.88G (6 bits)" in lines
    assert "weights: from 554.91kB (all that is searched at 2 bits) to 1.03MB (6 bits)" in lines
    network, launch = "--model mobilevit_xxs --input-size 256", "accelerate launch -m limpq_hub.train"
    assert err.splitlines() == [
        "from timm's weights, with photographs that need no labels (--data FOLDER takes labelled ones):",
        f"next: {launch}.indicators {network} --unlabelled FOLDER --output out/mobilevit_xxs",
        "for classes of your own:",
        f"next: {launch}.pretrain {network} --data FOLDER --output out/mobilevit_xxs-float",
        f"then: {launch}.indicators {network} --data FOLDER --weights "
        "out/mobilevit_xxs-float/model.safetensors --distill 0.5 --output out/mobilevit_xxs",
    ]


def test_what_stays_in_float_may_be_named_in_several_options(check):
    out = check("mobilevit_xxs", "--exclude", "stem.conv", "--fix", "stages.0.*", "--exclude", "head.fc", "--json")[1]
    assert out == check("mobilevit_xxs", "--exclude", "stem.conv", "head.fc", "--fix", "stages.0.*", "--json")[1]


def test_a_network_without_weights_in_timm_is_trained_first(check):
    lines = check("seresnet18")[2].splitlines()
    assert lines[0] == "for classes of your own:"
    assert lines[1].startswith("next: accelerate launch -m limpq_hub.train.pretrain --model seresnet18 ")


def test_as_json_it_holds_every_operation_and_the_totals(check):
    code, out, err = check("test_vit", "--json")
    assert (code, err) == (0, "")
    content = json.loads(out)
    network = network_on_meta("test_vit")
    expected = check_network(network, input_shape_of(network))
    assert content == {"model": "test_vit", **json.loads(json.dumps(expected.to_json()))}
    assert list(content["operations"]) == list(expected.costs)
    assert content["operations"]["blocks.0.attn.qk"]["product"] is True
    assert content["macs"] == content["flop_counter_macs"] == sum(o["macs"] for o in content["operations"].values())
    assert content["fixed"] == {"patch_embed.proj": [8, 8], "head": [8, 8]}


def test_layers_are_shown_one_a_row_on_request(check):
    assert "layer1.0.conv1" not in check("test_resnet")[1]
    out = check("test_resnet", "--layers")[1]
    assert row_of(out, "conv1.0") == ["conv1.0", "convolution", "2.76M", "432", "any sign", "8/8"]
    assert row_of(out, "layer1.0.conv1")[-2:] == ["not negative", "2 to 6"]


def test_the_input_size_and_the_classes_can_be_set(check):
    content = json.loads(check("test_resnet", "--input-size", 32, "--num-classes", 10, "--json")[1])
    assert content["input_shape"] == [3, 32, 32]
    assert content["operations"]["fc"]["weights"] == timm.create_model("test_resnet", num_classes=10).fc.weight.numel()
    assert "--input-size 32" in check("test_resnet", "--input-size", 32)[2]
    timms = "classifier: 1000 classes, as timm has it; --num-classes gives the figures of another head"
    assert timms in check("test_resnet")[1].splitlines()
    assert "classifier: 10 classes" in check("test_resnet", "--num-classes", 10)[1].splitlines()


def test_an_input_size_that_no_training_takes_is_refused(limpq):
    code, out, err = limpq("check", "test_resnet", "--input-size", 4097)
    assert (code, out) == (2, "")
    assert "argument --input-size: '4097' is not a whole number of at least 1 and at most 4096" in err


def test_what_is_excluded_stays_in_float_and_what_is_fixed_is_named(check):
    code, out, err = check("test_resnet", "--exclude", "layer1", "layer2.*", "--fix", "layer3.0.conv1")
    assert code == 0
    assert row_of(out, "left in float")[1:4] == ["5", "0", "43.93M"]
    assert "left in float, excluded (43.93M MACs): layer1.0.conv1, layer1.0.conv2, layer2.0.conv1," in out
    assert "fixed at 8/8 bits: conv1.0, layer3.0.conv1, fc" in out
    assert err.endswith(" --output out/test_resnet --exclude layer1 'layer2.*' --fix layer3.0.conv1\n")


@pytest.mark.parametrize(
    ("exclude", "fix"), [("fc", "fc"), ("layer1", "layer1.0.conv1"), ("layer1.*", "layer1"), ("*", "layer1.0.conv[12]")]
)
def test_what_is_excluded_and_to_be_fixed_as_well_is_told_as_that(check, exclude, fix):
    code, out, err = check("test_resnet", "--exclude", exclude, "--fix", "conv1.0", fix)
    named = "conv1.0" if exclude == "*" else fix
    told = f"fix: '{named}' names only what stays in float: leave it out here, or in exclude"
    assert (code, out, err) == (2, "", f"limpq check: {told}\n")


def test_what_is_excluded_in_part_is_fixed_in_the_rest_and_a_wrong_name_is_told_as_before(check):
    assert check("test_resnet", "--exclude", "layer1.0.conv1", "--fix", "layer1")[0] == 0
    assert "is named 'layer9'" in check("test_resnet", "--exclude", "layer1", "--fix", "layer9")[2]


def test_long_lists_of_names_are_cut_short(check):
    out = check("test_resnet", "--exclude", "layer*")[1]
    assert "layer2.0.downsample.1, layer3.0.conv1 and 6 more (--layers or --json name them)" in out


def test_where_nothing_is_left_to_search_it_says_so(check):
    assert check("test_resnet", "--fix", "*")[2] == "note: nothing is left to search\n"


def test_heads_that_are_never_called_and_shared_weights_are_named(check, monkeypatch):
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.pretrained_cfg, self.num_classes = {"input_size": (3, 8, 8)}, 2
            self.stem, self.body = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.again, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 1)
            self.auxiliary = nn.Conv2d(3, 2, 1)
            self.again.weight = self.body.weight

        def forward(self, x):
            return self.head(self.again(self.body(self.stem(x))))

    monkeypatch.setattr("limpq_hub.zoo.meta_network.network_on_meta", lambda *arguments, **options: TwoHeads())
    lines = check("two_heads")[1].splitlines()
    assert "never called in evaluation, so left out: auxiliary" in lines
    assert "sharing one weight and one step: again = body" in lines


def test_a_network_that_is_counted_otherwise_is_to_be_reported(check, monkeypatch):
    monkeypatch.setattr("limpq_hub.quant.network_check.flop_counter_macs", lambda module, shape: 5)
    _, out, err = check("test_resnet")
    assert "MACs: 102.55M (102,547,200), NOT equal to those of PyTorch's flop counter (5)" in out
    assert err.startswith("note: the two counts differ, which is a bug of limpq-hub: please report the name of the")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("resnet81", "timm has no network 'resnet81'; did you mean resnet18"),
        ("zzzzzzzz", "timm has no network 'zzzzzzzz'; timm.list_models() names them"),
        ("test_resnet --exclude nothing.*", "exclude: no layer, product or module is named 'nothing.*'"),
        ("vit_tiny_patch16_224 --exclude blocks.99", "exclude: no layer, product or module is named 'blocks.99'"),
        ("swin_tiny_patch4_window7_224 --input-size 3", "does not run on a batch of one input of shape [3, 3, 3]"),
    ],
)
def test_what_cannot_be_checked_exits_with_two_and_says_why(check, arguments, message):
    code, out, err = check(*arguments.split())
    assert (code, out) == (2, "")
    assert err.startswith("limpq check: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_layer_that_is_refused_is_named_with_what_to_do(check, monkeypatch):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.pretrained_cfg, self.num_classes = {"input_size": (3, 8, 8)}, 2
            self.stem, self.memory = nn.Conv2d(3, 3, 3), nn.GRU(3, 3)

    monkeypatch.setattr("limpq_hub.zoo.meta_network.network_on_meta", lambda *arguments, **options: Recurrent())
    code, out, err = check("recurrent")
    assert (code, out) == (2, "")
    assert err.startswith("limpq check: memory (GRU) cannot be quantized: it multiplies inside one operation")
    assert err.endswith("or leave it in float with --exclude memory\n")


@pytest.mark.slow
def test_the_patterns_that_a_refusal_of_many_layers_advises_are_enough(check):
    code, out, err = check("sequencer2d_s")
    assert (code, out) == (2, "")
    assert "stages.0.blocks.0.rnn_tokens.rnn_v (LSTM) cannot be quantized (36 such layers)" in err
    assert err.endswith("or leave them in float with --exclude '*rnn_v' '*rnn_h'\n")
    code, out, err = check("sequencer2d_s", "--exclude", "*rnn_v", "*rnn_h")
    assert code == 0
    assert row_of(out, "left in float")[1:5] == ["144", "0", "3.40G", "40.8 %"]
    assert "MACs: 8.33G (8,334,007,296), equal to those of PyTorch's flop counter (8,334,007,296)" in out


def test_arguments_of_the_network_are_checked_with_it_and_stand_in_the_next_commands(check):
    code, out, err = check("test_efficientnet", "--model-args", "pad_type=same", "channel_multiplier=1.4")
    assert code == 0
    assert "test_efficientnet pad_type=same channel_multiplier=1.4 at 160 x 160 pixels" in out
    typed = "--model test_efficientnet --model-args pad_type=same channel_multiplier=1.4 --input-size 160"
    assert [typed in line for line in err.splitlines()] == [False, True, True]  # of classes of one's own alone
    content = json.loads(check("test_efficientnet", "--model-args", "channel_multiplier=1.4", "--json")[1])
    wider = timm.create_model("test_efficientnet", channel_multiplier=1.4).classifier.weight.numel()
    assert content["model_args"] == {"channel_multiplier": 1.4}
    assert content["operations"]["classifier"]["weights"] == wider


def test_arguments_that_are_not_on_the_list_are_refused_in_one_line(check, capsys):
    with pytest.raises(SystemExit) as caught:
        check("test_efficientnet", "--model-args", "checkpoint_path=x")
    assert caught.value.code == 2
    assert "argument --model-args: 'checkpoint_path' is not an argument that can be kept" in capsys.readouterr().err
    code, out, err = check("mobilenetv2_100", "--model-args", "channel_multiplier=1.4")
    assert (code, out) == (2, "")
    assert err.startswith(
        "limpq check: timm cannot build mobilenetv2_100 channel_multiplier=1.4 for 224 x 224 pixels: "
    )
    assert err.endswith("; leave --model-args out\n")


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18.a1_in1k", "local-dir:out/float"])
def test_where_weights_are_is_no_name_of_a_network(check, name):
    code, out, err = check(name)
    assert (code, out) == (2, "")
    assert err == f"limpq check: '{name}' is where weights are: give the timm architecture, for example resnet18\n"


def test_a_folder_is_no_name_of_a_network_unless_timm_has_it(check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("joint", "test_efficientnet"):
        (tmp_path / name).mkdir()
    assert check("joint")[2].startswith("limpq check: 'joint' is where weights are: give the timm architecture")
    assert check("test_efficientnet")[0] == 0
