"""Pruning methods: one short file each, found by name."""

from workloads.pruning.base import Pruned, PruningMethod, method, methods, register
from workloads.pruning.ffn_channels import channel_scores, kept_channels
from workloads.pruning.magnitude import Magnitude
from workloads.pruning.pattern import Channels, NofM, Pattern, Unstructured, parse_pattern
from workloads.pruning.sparsegpt import SparseGPT
from workloads.pruning.wanda import Wanda

__all__ = [
    "Channels",
    "Magnitude",
    "NofM",
    "Pattern",
    "Pruned",
    "PruningMethod",
    "SparseGPT",
    "Unstructured",
    "Wanda",
    "channel_scores",
    "kept_channels",
    "method",
    "methods",
    "parse_pattern",
    "register",
]
