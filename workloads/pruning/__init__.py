"""Pruning methods: one short file each, found by name."""

from workloads.pruning.alps import ALPS
from workloads.pruning.base import Factors, Method, ModelMethod, Pruned, PruningMethod, method, methods, register
from workloads.pruning.block_diagonal import BlockDiagonal
from workloads.pruning.elsa import Elsa
from workloads.pruning.ffn_channels import FFNChannels, channel_scores, kept_channels
from workloads.pruning.flow import FLOW
from workloads.pruning.gqsa import GQSA
from workloads.pruning.hape import HAPE
from workloads.pruning.heads import AttentionHeads
from workloads.pruning.heapr import HEAPr
from workloads.pruning.hwpq import HWPQ
from workloads.pruning.layers import DecoderLayers
from workloads.pruning.low_rank import SeVeDo
from workloads.pruning.magnitude import Magnitude
from workloads.pruning.model import DenseModel, Latency
from workloads.pruning.pattern import (
    Blocks,
    Channels,
    Diagonal,
    Heads,
    Layers,
    LowRank,
    NofM,
    Pattern,
    Unstructured,
    parse_pattern,
)
from workloads.pruning.ria import RIA
from workloads.pruning.sparsegpt import SequentialSparseGPT, SparseGPT
from workloads.pruning.struprune import StruPrune
from workloads.pruning.tetris import Tetris
from workloads.pruning.trex import TREX
from workloads.pruning.wanda import Wanda

__all__ = [
    "ALPS",
    "FLOW",
    "GQSA",
    "HAPE",
    "HWPQ",
    "RIA",
    "TREX",
    "AttentionHeads",
    "BlockDiagonal",
    "Blocks",
    "Channels",
    "DecoderLayers",
    "DenseModel",
    "Diagonal",
    "Elsa",
    "FFNChannels",
    "Factors",
    "HEAPr",
    "Heads",
    "Latency",
    "Layers",
    "LowRank",
    "Magnitude",
    "Method",
    "ModelMethod",
    "NofM",
    "Pattern",
    "Pruned",
    "PruningMethod",
    "SeVeDo",
    "SequentialSparseGPT",
    "SparseGPT",
    "StruPrune",
    "Tetris",
    "Unstructured",
    "Wanda",
    "channel_scores",
    "kept_channels",
    "method",
    "methods",
    "parse_pattern",
    "register",
]
