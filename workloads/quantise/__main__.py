"""``python -m workloads.quantise``: perplexity of SmolLM2-135M under every quantiser, as a Markdown table.

``--activations``: under few-bit activations and KV cache as well, each row quantised once and measured at each width.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workloads.arithmetic import Arithmetic
from workloads.checkpoint import MATRIX_TYPES, ModelConfig
from workloads.perplexity import DOMAINS, Meter, domain_windows
from workloads.quantise.attended import calibrate_attended
from workloads.quantise.choice import Choices, QuantisationChoice, everywhere
from workloads.quantise.measured import arithmetics
from workloads.quantise.model import QuantisedModel
from workloads.quantise.pruned import before_pruning
from workloads.recipe import DENSE
from workloads.variants import VariantStore, default_store

ATTENDED = "+attended"
#: (quantiser, variant it is applied to); an empty one leaves the weights as they are. After the label of all matrices,
#: "type=label" says otherwise for one type, "layerN=label" for one layer, which stays at A8 KV8; "+attended": the
#: calibration of ``attended.py``.
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
    ("gptq +attended", "dense"),
    ("gptq:symmetric=False +attended", "dense"),
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
    ("", "wanda_50"),
    ("rtn", "wanda_50"),
    ("gptq +attended", "wanda_50"),
    ("", "wanda_2_4"),
    ("rtn", "wanda_2_4"),
)
EIGHT_AT_THE_ENDS = "{0} ffn_down={0}:bits=8 layer0={0}:bits=8 layer29={0}:bits=8"
#: Quantisers of the dense weights that are measured under few-bit activations and cache.
ACTIVATION_ROWS = (
    "",
    "rtn",
    "awq",
    "gwq",
    "bitmod",
    "nvfp4",
    "gptq +attended",
    EIGHT_AT_THE_ENDS.format("rtn"),
    EIGHT_AT_THE_ENDS.format("gptq") + " +attended",
)
#: (activation bits, KV bits) of the columns.
WIDTHS = ((8, 8), (8, 4), (4, 8), (4, 4))


@dataclass(frozen=True)
class Row:
    """One line of the table. Bits a weight count everything but the mask."""

    label: str
    variant: str
    bits_per_weight: float
    ppl: float
    cpu_s: float


def choices_of(config: ModelConfig, text: str, activation_bits: int = 8, kv_bits: int = 8) -> Choices:
    """Choices as ``ROWS`` writes them."""
    label, *others = (word for word in text.split() if word != ATTENDED)

    bits = activation_bits, kv_bits
    choices = everywhere(config, QuantisationChoice(label, *bits))
    for where, _, own in (other.partition("=") for other in others):
        if where in MATRIX_TYPES:
            choices |= everywhere(config, QuantisationChoice(own, *bits), [where])
        else:
            eight = everywhere(config, QuantisationChoice(own))
            choices |= {key: one for key, one in eight.items() if f"layer{key[0]}" == where}
    return choices


def quantised_model(store: VariantStore, text: str, variant: str, *bits: int) -> QuantisedModel:
    """The variant's survivors quantised; ``bits``: of activations and cache."""
    checkpoint = store.checkpoint
    choices = choices_of(checkpoint.config, text, *bits)

    def source(layer: int, t: str) -> np.ndarray:
        found = store.weight(variant, layer, t)
        if variant == DENSE or not choices[layer, t].weights.compensates:
            return found
        return before_pruning(checkpoint.matrix(layer, t), found, store.mask(variant, layer, t))

    calibration = calibrate_attended(checkpoint) if ATTENDED in text.split() else store.calibration
    return QuantisedModel(checkpoint, choices, calibration, source, lambda layer, t: store.mask(variant, layer, t))


def measure(meter: Meter, store: VariantStore, label: str, variant: str) -> Row:
    """Quantise the matrices of ``variant`` and measure them with float activations; CPU-seconds of both."""
    started = time.process_time()
    bits = 32.0
    if not label:
        found = meter.measure(variant, lambda layer, t: store.weight(variant, layer, t), 0.0, "float")
    else:
        model = quantised_model(store, label, variant)
        found = meter.measure(f"{variant} {label}", model.weights, 0.0, "float")
        bits = model.bits_per_weight
    return Row(label or "as stored", variant, bits, found.ppl, time.process_time() - started)


def measure_widths(meter: Meter, store: VariantStore, label: str) -> tuple[float, list[float]]:
    """Bits a weight, and perplexity at each of ``WIDTHS``, of the dense weights quantised once."""
    config = store.checkpoint.config
    if not label:
        head = Arithmetic(8, 8, 8)
        whole = [[*[Arithmetic(None, a, kv)] * config.layers, head] for a, kv in WIDTHS]
        return 32.0, [meter.measure("dense", store.checkpoint.matrix, 0.0, one).ppl for one in whole]
    once = quantised_model(store, label, DENSE)
    values = {key: once.weights(*key) for key in once.keys}
    found = []
    for widths in WIDTHS:
        choices = choices_of(config, label, *widths)
        found.append(meter.measure(label, lambda *key: values[key], 0.0, arithmetics(config, choices)).ppl)
    return once.bits_per_weight, found


def table(rows: Iterator[Row]) -> Iterator[str]:
    """Markdown, line by line."""
    yield "| quantiser | weights | bits a weight | perplexity | CPU-s |"
    yield "|---|---|---:|---:|---:|"
    for row in rows:
        yield f"| `{row.label}` | {row.variant} | {_bits(row.bits_per_weight)} | {_ppl(row.ppl)} | {row.cpu_s:.0f} |"


def widths_table(rows: Iterator[tuple[str, tuple[float, list[float]]]]) -> Iterator[str]:
    """Markdown, line by line, of :func:`measure_widths`."""
    yield "| weights | bits a weight | " + " | ".join(f"A{a} KV{kv}" for a, kv in WIDTHS) + " |"
    yield "|---|---:|" + "---:|" * len(WIDTHS)
    for label, (bits, found) in rows:
        yield f"| `{label or 'as stored'}` | {_bits(bits)} | " + " | ".join(map(_ppl, found)) + " |"


def _bits(bits: float) -> str:
    return f"{bits:.3f}" if bits < 32 else "float"


def _ppl(ppl: float) -> str:
    return f"{ppl:.2f}" if ppl < 1e4 else f"{ppl:.0e}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m workloads.quantise", description=__doc__.split("\n")[0])
    parser.add_argument("--windows", type=int, default=4, choices=range(1, 9), help="evaluation windows of 512 tokens")
    parser.add_argument("--domain", choices=DOMAINS, default=DOMAINS[0], help="whose windows")
    parser.add_argument("--only", default="", help="rows whose label starts so")
    parser.add_argument("--activations", action="store_true", help="the table of few-bit activations and cache")
    given = parser.parse_args()
    store = default_store()
    meter = Meter(store.checkpoint, domain_windows(given.domain)[: given.windows], domain=given.domain)
    if given.activations:
        labels = [label for label in ACTIVATION_ROWS if label.startswith(given.only)]
        lines = widths_table((label, measure_widths(meter, store, label)) for label in labels)
    else:
        chosen = [row for row in ROWS if row[0].startswith(given.only)]
        lines = table(measure(meter, store, *row) for row in chosen)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
