"""Quantisers: one short file each, found by name; and plain symmetric int8 (``rows.py``)."""

from workloads.quantise.awq import Awq
from workloads.quantise.base import Quantised, Quantiser, StoredBits, quantiser, quantisers, register
from workloads.quantise.bfp import Bfp
from workloads.quantise.bitmod import BitMod
from workloads.quantise.gptq import Gptq
from workloads.quantise.gwq import Gwq
from workloads.quantise.lookup import TableCost, table_cost
from workloads.quantise.mx import Mx
from workloads.quantise.nvfp4 import NvFp4
from workloads.quantise.rows import LEVELS, fake_quantise, quantise_rows
from workloads.quantise.rtn import Rtn
from workloads.quantise.ternary import Ternary

__all__ = [
    "LEVELS",
    "Awq",
    "Bfp",
    "BitMod",
    "Gptq",
    "Gwq",
    "Mx",
    "NvFp4",
    "Quantised",
    "Quantiser",
    "Rtn",
    "StoredBits",
    "TableCost",
    "Ternary",
    "fake_quantise",
    "quantise_rows",
    "quantiser",
    "quantisers",
    "register",
    "table_cost",
]
