"""Formats and matrices that every format is put through."""

from __future__ import annotations

import numpy as np

from formats import real_masks
from sim.sparsity.formats import FORMATS, format_of

OPTIONS = (
    ("n_of_m", {"n": 1, "m": 4}),
    ("n_of_m", {"n": 3, "m": 7}),
    ("csr", {"index_bits": 16}),
    ("run_length", {"run_bits": 2}),
    ("run_length", {"word_bits": 64}),
    ("block", {"block": (4, 4)}),
    ("block", {"block": (3, 5), "index_bits": 20}),
    ("tca_bme", {"medians": True}),
    ("huffman", {"over": "dense"}),
    *(
        ("ranks", {"ranks": r})
        for r in ("U", "CP", "B", "RLE", "CP-CP", "B-B", "UOP-RLE", "UOP-B", "UB-B", "CP-B", "CP-U")
    ),
    *(
        ("ranks", {"ranks": r, "block": (4, 8)})
        for r in ("CP-B", "UOP-CP-B", "B-B-B-B", "CP-CP-CP-CP", "UOP-CP-UOP-CP", "B-UOP-RLE", "UOP-CP-CP")
    ),
)
CASES = [*(format_of(name) for name in FORMATS), *(format_of(name, **options) for name, options in OPTIONS)]
IDS = [str(case).replace(" ", "") for case in CASES]


def fitting(case, codes):
    """``codes`` as the format can hold them: of n:m, the first n nonzeros of every group."""
    if case.name != "n_of_m":
        return codes
    groups = np.pad(codes, ((0, 0), (0, -codes.shape[1] % case.m))).reshape(len(codes), -1, case.m)
    return (groups * (np.cumsum(groups != 0, axis=2) <= case.n)).reshape(len(codes), -1)[:, : codes.shape[1]]


def drawn(shape, density, seed=0, bits=8):
    """Codes of ``bits`` bits, each nonzero with the same chance."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 1 << bits, shape) * (rng.random(shape) < density)


MATRICES = {
    "signed": drawn((37, 61), 0.3, bits=7) * np.where(np.arange(61) % 2, 1, -1),
    "sparse": drawn((130, 200), 0.01),
    "all zero": np.zeros((20, 70), dtype=np.int64),
    "all dense": drawn((64, 128), 1.0),
    "one zero": np.zeros((1, 1), dtype=np.int64),
    "one value": np.full((1, 1), 255),
    "one row": drawn((1, 500), 0.2),
    "one column": drawn((300, 1), 0.2),
    "a corner": np.eye(129, 65, k=-100, dtype=np.int64),
    **{
        name: real_masks.codes() * real_masks.masks()[name]
        for name in ("magnitude_50", "wanda_70", "sparsegpt_50", "wanda_2_4")
    },
}
