"""What kinds of layers and operations do with the channels of an activation. Chapter 03."""

from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
PER_CHANNEL = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.PReLU)

# Each number by itself: channels stay what they are.
ELEMENTWISE = (
    nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid,
    nn.Tanh, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Softplus, nn.Dropout, nn.Dropout1d, nn.Dropout2d,
    nn.Dropout3d, nn.AlphaDropout,
)  # fmt: skip
ELEMENTWISE_OPERATIONS = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "sigmoid", "tanh", "hardswish", "hardsigmoid",
    "hardtanh", "softplus", "dropout", "clamp", "neg", "abs", "exp", "sqrt", "square", "pow", "contiguous", "clone",
    "detach", "float", "to", "stochastic_depth", "drop_path",
}  # fmt: skip
# Two activations meet, number by number.
BINARY_OPERATIONS = {"add", "sub", "mul", "div", "truediv", "maximum", "minimum"}
# The map of each channel by itself.
PER_MAP = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
    nn.Upsample, nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d,
)  # fmt: skip
PER_MAP_OPERATIONS = {
    "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_max_pool2d", "interpolate",
}  # fmt: skip
# Axes are summed away.
REDUCTIONS = {"mean", "sum", "amax", "amin"}
# Numbers change their places only, in a way that does not depend on how many channels there are.
MOVES = {"flatten", "permute", "transpose", "squeeze", "unsqueeze", "movedim", "cat", "concat", "expand"}
