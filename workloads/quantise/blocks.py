"""Rows cut into blocks of consecutive inputs, and real numbers as streams of FP16 or FP32."""

from __future__ import annotations

import numpy as np

from sim.sparsity.formats.stream import Stream

HALF_BITS = 16
_LARGEST_HALF = np.float32(np.finfo(np.float16).max)


def split(matrix: np.ndarray, size: int) -> np.ndarray:
    """[out, in] -> [out, blocks, size], the last block filled up with zeros (False)."""
    outputs, inputs = matrix.shape
    return np.pad(matrix, ((0, 0), (0, -inputs % size))).reshape(outputs, -1, size)


def join(blocks: np.ndarray, inputs: int) -> np.ndarray:
    """[out, blocks, size] -> [out, in]."""
    return blocks.reshape(len(blocks), -1)[:, :inputs]


def as_half(x: np.ndarray) -> np.ndarray:
    """x rounded to FP16 (saturating), as float32."""
    return np.clip(x, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16).astype(np.float32)


def half_stream(x: np.ndarray) -> Stream:
    """FP16 numbers, bit by bit."""
    return Stream(as_half(x).astype(np.float16).view(np.uint16).astype(np.int64).reshape(-1), HALF_BITS)


def halves(stream: Stream) -> np.ndarray:
    """The FP16 numbers of a stream, as float32."""
    return stream.numbers.astype(np.uint16).view(np.float16).astype(np.float32)


def divided(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    """x / by, and 0 where ``by`` is 0 (a block of zeros)."""
    return np.divide(x, by, out=np.zeros(np.broadcast_shapes(x.shape, by.shape), np.float32), where=by != 0)
