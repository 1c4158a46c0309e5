"""Predict the perplexity of any recipe from measured ones, with an interval, and say so where data ends."""

from workloads.quality.evaluate import compare_forms, write_surrogate_errors
from workloads.quality.model import FORMS, NOISE_FLOOR, Quality, QualityModel
from workloads.quality.plan import Plan
from workloads.quality.surrogate import Surrogate, bundled_model, bundled_surrogate
from workloads.quality.table import ARITHMETIC, MEASURED, read_measured

__all__ = [
    "ARITHMETIC",
    "FORMS",
    "MEASURED",
    "NOISE_FLOOR",
    "Plan",
    "Quality",
    "QualityModel",
    "Surrogate",
    "bundled_model",
    "bundled_surrogate",
    "compare_forms",
    "read_measured",
    "write_surrogate_errors",
]
