"""Rows that are equal, found fast: the designs that share a geometry, the configurations that share a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def codes(keys: Sequence[NDArray[np.float64]]) -> NDArray[np.int64]:
    """[rows] a code for each row of the tables ``keys`` (each [rows, columns]) side by side: equal rows, equal code;
    codes are 0, 1, ... in sorted order."""
    code = np.zeros(len(keys[0]), dtype=np.int64)
    for table in keys:
        varying = np.flatnonzero((table != table[:1]).any(axis=0))
        for column in varying:
            values, inverse = np.unique(table[:, column], return_inverse=True)
            code = np.unique(code * len(values) + inverse, return_inverse=True)[1]
    return code


def group(keys: Sequence[NDArray[np.float64]], longest: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(order, starts): rows in an order that puts equal ones together, cut into pieces of equal rows, none of more than
    ``longest``; piece i is ``order[starts[i]:starts[i + 1]]``."""
    code = codes(keys)
    order = np.argsort(code, kind="stable")
    sorted_code = code[order]
    new = np.flatnonzero(np.diff(sorted_code)) + 1
    firsts = np.concatenate([[0], new])
    lengths = np.diff(np.concatenate([firsts, [len(code)]]))
    within = np.arange(len(code)) - np.repeat(firsts, lengths)
    starts = np.flatnonzero(within % longest == 0)
    return order, np.concatenate([starts, [len(code)]]).astype(np.int64)
