"""What kinds of layers and operations do with the channels of an activation. Chapter 03."""

from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.PReLU)
# Axes of the input without a batch, where the channels are the first and not the second.
UNBATCHED: dict[type[nn.Module], int] = {nn.InstanceNorm1d: 2, nn.InstanceNorm2d: 3, nn.InstanceNorm3d: 4}

# Each number by itself: channels stay what they are.
ELEMENTWISE = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid,
    nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.Dropout, nn.Dropout1d, nn.Dropout2d,
    nn.Dropout3d, nn.AlphaDropout,
)  # fmt: skip
ELEMENTWISE_OPERATIONS = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "sigmoid", "tanh", "hardswish", "hardsigmoid",
    "hardtanh", "softplus", "dropout", "clamp", "neg", "abs", "exp", "log", "sqrt", "rsqrt", "square", "pow",
    "contiguous", "clone", "detach", "float", "to", "stochastic_depth",
}  # fmt: skip
# Two activations meet, number by number.
BINARY_OPERATIONS = {"add", "sub", "mul", "div", "truediv", "maximum", "minimum"}
# The map of each channel by itself: for how many axes, batch and channels included.
_POOLS = ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")
PER_MAP_OPERATIONS = {f"{pool}{axes}d": axes + 2 for pool in _POOLS for axes in (1, 2, 3)}
PER_MAP = {
    getattr(nn, f"{kind}{axes}d"): axes + 2
    for kind in (
        "MaxPool",
        "AvgPool",
        "AdaptiveAvgPool",
        "AdaptiveMaxPool",
        "ZeroPad",
        "ReflectionPad",
        "ReplicationPad",
    )
    for axes in (1, 2, 3)
}
# Axes are summed away.
REDUCTIONS = {"mean", "sum", "amax", "amin"}
# Numbers change their places only, in a way that does not depend on how many channels there are.
MOVES = {"flatten", "permute", "transpose", "squeeze", "unsqueeze", "movedim"}
