"""One small network of each of timm's families, and the smallest input that it takes."""

FAMILIES = {
    "beit": ("beit_base_patch16_224", 64),
    "levit": ("levit_128s", 64),
    "mobilenetv3": ("mobilenetv3_small_050", 64),
    "nfnet": ("nf_regnet_b0", 64),
    "resnetv2": ("resnetv2_18", 64),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", 64),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 64),
    "deit": ("deit_tiny_patch16_224", 64),
    "edgenext": ("edgenext_xx_small", 64),
    "dla": ("dla46x_c", 64),
    "xcit": ("xcit_nano_12_p16_224", 64),
    "mobilevit": ("mobilevit_xxs", 64),
    "hiera": ("hiera_tiny_224", 224),
}
