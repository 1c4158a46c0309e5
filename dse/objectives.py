"""Objectives of a batch of (machine, recipe) pairs: one evaluation of the simulator per phase, and the quality model.

``latency_s = prefill_s + decode_tokens * decode_s``; ``energy_per_token_pj`` is the decode step's energy with DRAM,
leakage and background; ``area_mm2`` with the DRAM PHY; ``perplexity`` as predicted from measurements, W8A8KV8
arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from dse.space import Space
from sim.designs import Designs
from sim.simulate import evaluate
from sim.spec import Accelerator
from workloads.codesign import Codesign
from workloads.quality import QualityModel
from workloads.recipe import Recipe


class Objectives:
    """Callable as :data:`dse.study.Evaluate`; holds the traces and the quality model of a space."""

    def __init__(self, space: Space):
        self.space = space
        work = space.workload
        self.prefill = Codesign.bundled(space.model, phase="prefill", tokens=work.prefill_tokens)
        self.decode = Codesign.bundled(space.model, phase="decode", context=work.decode_context)
        self.quality = QualityModel.from_bundle()

    def __call__(self, params: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
        pairs = [self.space.decode(p) for p in params]
        return self.of([m for m, _ in pairs], [r for _, r in pairs])

    def of(self, machines: Sequence[Accelerator], recipes: Sequence[Recipe]) -> pd.DataFrame:
        """One row a pair: objectives, phase times, violations (> 0 breaks the constraint), feasible, reason,
        description."""
        designs = Designs.from_machines(machines)
        codes = np.array([r.codes() for r in recipes], dtype=np.int64)
        prefill = evaluate(designs, self.prefill.trace, self.prefill.select(codes)).table
        decode = evaluate(designs, self.decode.trace, self.decode.select(codes)).table
        nll = self.quality.nll(codes)
        table = pd.DataFrame(
            {
                "machine": [m.name for m in machines],
                "recipe": [r.key for r in recipes],
                "latency_s": prefill["seconds"] + self.space.workload.decode_tokens * decode["seconds"],
                "energy_per_token_pj": decode["energy_pj"],
                "area_mm2": decode["area_mm2"],
                "perplexity": np.exp(nll),
                "perplexity_label": np.where(self.quality.beyond(nll), "unknown: beyond the data", "predicted"),
                "prefill_s": prefill["seconds"],
                "decode_s": decode["seconds"],
                "energy_per_token_without_leakage_pj": decode["energy_without_leakage_pj"],
                "decode_dram_bytes": decode["dram_bytes"],
                "config_hash": [m.config_hash() for m in machines],
            }
        )
        limits = self.space.constraints
        if limits.area_mm2 is not None:
            table["violation_area"] = table["area_mm2"] / limits.area_mm2 - 1.0
        if limits.perplexity_over_dense is not None:
            table["violation_perplexity"] = nll - self.quality.dense_nll - np.log(limits.perplexity_over_dense)
        table["feasible"] = (prefill["feasible"] & decode["feasible"]).to_numpy()
        table["reason"] = [a or b for a, b in zip(prefill["reason"], decode["reason"], strict=True)]
        return table


def admissible(table: pd.DataFrame) -> np.ndarray:
    """[rows] bool: feasible, and no constraint broken."""
    violations = [c for c in table if c.startswith("violation_")]
    return table["feasible"].to_numpy(dtype=bool) & (table[violations].fillna(1.0) <= 0).all(axis=1).to_numpy()
