"""Really pruned layers for tests: masks of three methods and the int8 codes of their weights.

``real_masks.npz`` is one matrix of SmolLM2-135M-Instruct (Apache-2.0), layer 14 ``attn_v``, 192 x 576 (out x in),
pruned by the methods of ``workloads/pruning``; codes are symmetric int8 with a scale an output, those that round to
zero made 1 so that every weight a mask keeps is a nonzero. ``python real_masks.py`` makes it again from the user's
cache.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("real_masks.npz")
VARIANTS = ("magnitude_50", "wanda_50", "sparsegpt_50", "wanda_70", "wanda_2_4")
LAYER, MATRIX = 14, "attn_v"


@cache
def masks():
    """{variant: bool [192, 576]}."""
    with np.load(FILE) as data:
        columns = data["codes"].shape[1]
        return {name: np.unpackbits(data[name], axis=1, count=columns).view(bool) for name in VARIANTS}


@cache
def codes():
    """int64 [192, 576]: codes of the weights before pruning, none of them zero."""
    with np.load(FILE) as data:
        return data["codes"].astype(np.int64)


def _write() -> None:
    from workloads.calibration import calibrate
    from workloads.checkpoint import open_checkpoint
    from workloads.quantise import quantise_rows
    from workloads.variants import VariantStore

    checkpoint = open_checkpoint()
    store = VariantStore(checkpoint, calibrate(checkpoint))
    found = quantise_rows(checkpoint.matrix(LAYER, MATRIX))[0].astype(np.int8)
    packed = {name: np.packbits(store.mask(name, LAYER, MATRIX), axis=1) for name in VARIANTS}
    np.savez_compressed(FILE, codes=np.where(found == 0, 1, found), **packed)


if __name__ == "__main__":
    _write()
