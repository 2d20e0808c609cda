"""Tests of the list of arguments that an artifact may hold: plain values of a type and range, nothing else."""

import pytest

from limpq_hub.zoo.model_args import RefusedArgument, checked_arguments, kept_arguments, typed_argument, typed_text


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("pad_type=same", "same"),
        ("pad_type=", ""),
        ("channel_multiplier=1.4", 1.4),
        ("mlp_ratio=4", 4.0),
        ("output_stride=16", 16),
        ("qkv_bias=False", False),
        ("avg_down=true", True),
        ("act_layer=relu6", "relu6"),
    ],
)
def test_what_is_typed_has_the_type_of_its_argument_and_is_typed_the_same_again(typed, value):
    name, found = typed_argument(typed)
    assert (name, found, type(found)) == (typed.partition("=")[0], value, type(value))
    assert typed_argument(typed_text({name: found})[0]) == (name, value)
    assert checked_arguments({name: found}) == {name: value}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("pad_type", "'pad_type' is not NAME=VALUE, for example pad_type=same"),
        ("=same", "'' is not an argument that can be kept; limpq_hub.zoo.model_args lists those that can"),
        ("checkpoint_path=/etc/passwd", "'checkpoint_path' is not an argument that can be kept"),
        ("norm_layer=torch.load", "'norm_layer' is not an argument that can be kept"),
        ("pretrained=true", "'pretrained' is not an argument that can be kept"),
        ("pretrained_cfg=x", "'pretrained_cfg' is not an argument that can be kept"),
        ("num_classes=3", "'num_classes' is not an argument that can be kept"),
        ("pad_type=SAME", "pad_type must be one of '', 'same', 'symmetric', 'valid', found 'SAME'"),
        ("act_layer=torch.nn.ReLU", "act_layer must be one of 'relu', "),
        ("channel_multiplier=wide", "channel_multiplier must be a number from 0.1 to 8, found 'wide'"),
        ("channel_multiplier=nan", "channel_multiplier must be a number from 0.1 to 8, found nan"),
        ("channel_multiplier=1e9", "channel_multiplier must be a number from 0.1 to 8, found 1000000000.0"),
        ("depth=2.5", "depth must be a whole number from 1 to 64, found '2.5'"),
        ("depth=65", "depth must be a whole number from 1 to 64, found 65"),
        ("depth=1_2", "depth must be a whole number from 1 to 64, found '1_2'"),
        ("depth=\uff11\uff12", "depth must be a whole number from 1 to 64, found '\uff11\uff12'"),
        ("depth=" + "9" * 5000, "depth must be a whole number from 1 to 64, found '9999"),
        ("mlp_ratio=1_2", "mlp_ratio must be a number from 0.1 to 8, found '1_2'"),
        ("mlp_ratio= 4", "mlp_ratio must be a number from 0.1 to 8, found ' 4'"),
        ("qkv_bias=yes", "qkv_bias must be true or false, found 'yes'"),
    ],
)
def test_anything_else_that_is_typed_is_refused(typed, message):
    with pytest.raises(RefusedArgument) as caught:
        typed_argument(typed)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("depth", True),
        ("depth", 2.0),
        ("mlp_ratio", True),
        ("mlp_ratio", "4"),
        ("mlp_ratio", [4]),
        ("mlp_ratio", 10**400),
        ("qkv_bias", 1),
        ("pad_type", ["same"]),
        ("pad_type", None),
        ("pad_type", {}),
        (3, 3),
    ],
)
def test_a_value_of_another_type_is_refused_as_it_would_come_from_json(name, value):
    with pytest.raises(RefusedArgument, match=r"must be|is not an argument that can be kept"):
        checked_arguments({name: value})


def test_what_makes_no_other_network_is_not_kept():
    given = {
        "num_classes": 3,
        "img_size": 64,
        "in_chans": 3,
        "drop_path_rate": 0.1,
        "attn_drop_rate": 0.1,
        "depth": None,
    }
    assert kept_arguments(given | {"pad_type": "same"}) == {"pad_type": "same"}
    assert kept_arguments({"in_chans": 1}) == {"in_chans": 1}
