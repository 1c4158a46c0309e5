"""Activations dropped at run time: methods one short file each, found by name; what they cost and leave, measured."""

from workloads.activation_sparsity.base import (
    ActivationMethod,
    Keep,
    activation_method,
    activation_methods,
    register,
)
from workloads.activation_sparsity.dynatran import DynaTran
from workloads.activation_sparsity.edit import DENSE_TOKENS, SparseInputs
from workloads.activation_sparsity.facts import Facts
from workloads.activation_sparsity.teal import TEAL, BlockwiseTEAL
from workloads.activation_sparsity.topk import TopK
from workloads.activation_sparsity.wina import WINA

__all__ = [
    "DENSE_TOKENS",
    "TEAL",
    "WINA",
    "ActivationMethod",
    "BlockwiseTEAL",
    "DynaTran",
    "Facts",
    "Keep",
    "SparseInputs",
    "TopK",
    "activation_method",
    "activation_methods",
    "register",
]
