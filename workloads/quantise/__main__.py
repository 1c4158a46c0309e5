"""``python -m workloads.quantise``: perplexity of SmolLM2-135M under every quantiser, as a Markdown table."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workloads.calibration import bundled_windows
from workloads.checkpoint import ModelConfig
from workloads.perplexity import Meter
from workloads.quantise.choice import Choices, everywhere
from workloads.quantise.model import QuantisedModel
from workloads.transformer import ARITHMETICS
from workloads.variants import VariantStore, default_store

#: (quantiser, variant it is applied to); an empty one leaves the weights as they are. After the label of all matrices,
#: "type=label" says otherwise for one type.
ROWS = (
    ("", "dense"),
    ("rtn:bits=8", "dense"),
    ("rtn", "dense"),
    ("rtn:group=32", "dense"),
    ("rtn:symmetric=False", "dense"),
    ("awq", "dense"),
    ("gwq", "dense"),
    ("gptq", "dense"),
    ("gptq attn_v=rtn", "dense"),
    ("bitmod", "dense"),
    ("mx:element=e2m1", "dense"),
    ("mx:element=int4", "dense"),
    ("mx:element=e2m3", "dense"),
    ("mx:element=e4m3", "dense"),
    ("bfp", "dense"),
    ("nvfp4", "dense"),
    ("rtn:bits=3", "dense"),
    ("awq:bits=3", "dense"),
    ("gwq:bits=3", "dense"),
    ("gptq:bits=3", "dense"),
    ("bitmod:bits=3", "dense"),
    ("ternary", "dense"),
    ("", "sparsegpt_50"),
    ("rtn", "sparsegpt_50"),
    ("gptq", "sparsegpt_50"),
    ("", "wanda_2_4"),
    ("rtn", "wanda_2_4"),
)


@dataclass(frozen=True)
class Row:
    """One line of the table. Bits a weight count everything but the mask."""

    label: str
    variant: str
    bits_per_weight: float
    ppl: float
    cpu_s: float


def choices_of(config: ModelConfig, text: str) -> Choices:
    """Choices as ``ROWS`` writes them."""
    label, *others = text.split()
    choices = everywhere(config, label)
    for matrix_type, _, own in (other.partition("=") for other in others):
        choices |= everywhere(config, own, [matrix_type])
    return choices


def measure(meter: Meter, store: VariantStore, label: str, variant: str, arithmetic: str = "float") -> Row:
    """Quantise the matrices of ``variant`` and measure them; CPU-seconds of both."""
    started = time.process_time()
    checkpoint, calibration = store.checkpoint, store.calibration

    def source(layer: int, t: str) -> np.ndarray:
        return store.weight(variant, layer, t)

    if not label:
        bits = 32.0
        found = meter.measure(variant, source, 0.0, arithmetic)
    else:
        choices = choices_of(checkpoint.config, label)
        model = QuantisedModel(checkpoint, choices, calibration, source, lambda layer, t: store.mask(variant, layer, t))
        found = meter.measure(f"{variant} {label}", model.weights, 0.0, arithmetic)
        bits = model.bits_per_weight
    return Row(label or "as stored", variant, bits, found.ppl, time.process_time() - started)


def table(rows: Iterator[Row]) -> Iterator[str]:
    """Markdown, line by line."""
    yield "| quantiser | weights | bits a weight | perplexity | CPU-s |"
    yield "|---|---|---:|---:|---:|"
    for row in rows:
        bits = f"{row.bits_per_weight:.3f}" if row.label != "as stored" else "float"
        ppl = f"{row.ppl:.2f}" if row.ppl < 1e4 else f"{row.ppl:.0e}"
        yield f"| `{row.label}` | {row.variant} | {bits} | {ppl} | {row.cpu_s:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workloads.quantise", description=__doc__)
    parser.add_argument("--windows", type=int, default=4, choices=range(1, 9), help="evaluation windows of 512 tokens")
    parser.add_argument("--only", default="", help="rows whose label starts so")
    parser.add_argument("--arithmetic", default="float", choices=ARITHMETICS)
    given = parser.parse_args()
    store = default_store()
    meter = Meter(store.checkpoint, bundled_windows()["evaluation"][: given.windows])
    chosen = (row for row in ROWS if row[0].startswith(given.only))
    for line in table(measure(meter, store, *row, given.arithmetic) for row in chosen):
        print(line, flush=True)


if __name__ == "__main__":
    main()
