"""What the vector unit does for the ops of other people's graphs, in kinds of ``sim/data/vector_ops.csv``.

Some have no kind of their own and take one that costs as much or a little more; these are marked.
"""

from __future__ import annotations

_DIVIDE = ("decay",)  # one special function (reciprocal) and one multiply, as exp(dt*A) is
_CLAMP = ("relu", "relu")  # two compares

ELEMENTWISE: dict[str, tuple[str, ...]] = {
    "Abs": ("relu",),
    "Add": ("add",),
    "BatchNormalization": ("mac",),  # at inference a scale and a shift
    "Ceil": ("relu",),  # stand-in: one ALU operation
    "Clip": _CLAMP,
    "Cos": _DIVIDE,  # stand-in: one special function
    "Div": _DIVIDE,
    "Elu": ("decay", "relu"),
    "Erf": ("tanh",),  # stand-in: evaluated like tanh
    "Exp": _DIVIDE,
    "Floor": ("relu",),  # stand-in
    "Gelu": ("gelu",),
    "HardSigmoid": ("mac", *_CLAMP),
    "HardSwish": ("mac", *_CLAMP, "mul"),
    "LeakyRelu": ("relu", "mul"),
    "Log": _DIVIDE,
    "Max": ("max",),
    "Min": ("max",),
    "Mish": ("softplus", "tanh", "mul"),
    "Mul": ("mul",),
    "Neg": ("mul",),
    "PRelu": ("relu", "mul"),
    "Pow": ("mul",),  # squares; other powers cost more
    "Reciprocal": _DIVIDE,
    "Relu": ("relu",),
    "Round": ("relu",),  # stand-in
    "Sigmoid": ("sigmoid",),
    "Sin": _DIVIDE,  # stand-in: one special function
    "Softplus": ("softplus",),
    "Sqrt": _DIVIDE,
    "Sub": ("add",),
    "Swish": ("silu",),
    "Tanh": ("tanh",),
    "Where": ("causal_mask",),
    **dict.fromkeys(
        ("And", "Equal", "Greater", "GreaterOrEqual", "IsNaN", "Less", "LessOrEqual", "Not", "Or"), ("max",)
    ),
}
"""Kinds by element of the output; several operands of one op are added up, one operation less than operands."""

ROWS: dict[str, str] = {
    "GroupNormalization": "layernorm",
    "InstanceNormalization": "layernorm",
    "LayerNormalization": "layernorm",
    "LogSoftmax": "softmax",
    "RMSNormalization": "rmsnorm",
    "SimplifiedLayerNormalization": "rmsnorm",
    "Softmax": "softmax",
}
"""Row-wise ops that write what they read."""

REDUCTIONS: dict[str, str] = {
    "ArgMax": "argmax",
    "ArgMin": "argmax",
    "GlobalAveragePool": "sum",
    "GlobalMaxPool": "max",
    "ReduceMax": "max",
    "ReduceMean": "sum",
    "ReduceMin": "max",
    "ReduceSum": "sum",
    "ReduceSumSquare": "mac",
}
"""Ops that read everything and write less."""

POOLS = {"AveragePool": "sum", "MaxPool": "max"}
"""Windows: one operation a tap and output."""

MOVES = ("Concat", "Expand", "Gather", "GatherND", "Pad", "Resize", "Tile", "Upsample")
"""One move an element written; an interpolating resize costs more."""
MOVE = "im2col"

VIEWS = (
    "Cast", "Dropout", "Flatten", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Free: another way to address the same bytes."""

TORCH: dict[str, str] = {
    "AdaptiveAvgPool1d": "GlobalAveragePool",
    "AdaptiveAvgPool2d": "GlobalAveragePool",
    "AvgPool1d": "AveragePool",
    "AvgPool2d": "AveragePool",
    "BatchNorm1d": "BatchNormalization",
    "BatchNorm2d": "BatchNormalization",
    "Dropout": "Dropout",
    "Dropout1d": "Dropout",
    "Dropout2d": "Dropout",
    "ELU": "Elu",
    "Flatten": "Flatten",
    "GELU": "Gelu",
    "GroupNorm": "GroupNormalization",
    "Hardsigmoid": "HardSigmoid",
    "Hardswish": "HardSwish",
    "Hardtanh": "Clip",
    "Identity": "Identity",
    "InstanceNorm1d": "InstanceNormalization",
    "InstanceNorm2d": "InstanceNormalization",
    "LayerNorm": "LayerNormalization",
    "LeakyReLU": "LeakyRelu",
    "LogSoftmax": "LogSoftmax",
    "MaxPool1d": "MaxPool",
    "MaxPool2d": "MaxPool",
    "Mish": "Mish",
    "PReLU": "PRelu",
    "RMSNorm": "RMSNormalization",
    "ReLU": "Relu",
    "ReLU6": "Clip",
    "SiLU": "Swish",
    "Sigmoid": "Sigmoid",
    "Softmax": "Softmax",
    "Softplus": "Softplus",
    "Tanh": "Tanh",
    "Unflatten": "Reshape",
}
"""Classes of torch layers without matrices to the ONNX op that does the same."""
