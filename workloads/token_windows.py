"""A caller's own token ids in place of the project's texts: windows [n, length], checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import InputError

_FORM = "whole numbers [n, length] (token ids)"


def token_windows(name: str, given: Any, vocab: int, least: int = 1) -> np.ndarray:
    """``given`` as an array [n, length] of token ids below ``vocab``; ``least``: tokens that a window has at least.

    :class:`InputError`, which calls it ``name``, for anything else.
    """
    try:
        ids = np.asarray(given)
    except ValueError:  # rows of different lengths
        raise InputError(f"{name} must be {_FORM}, got rows of different lengths") from None
    if ids.dtype.kind not in "iu":
        raise InputError(f"{name} must be {_FORM}, got {'text' if ids.dtype.kind in 'SU' else ids.dtype}")
    if ids.ndim != 2 or not len(ids) or ids.shape[1] < least:
        raise InputError(f"{name} must be [n, length], n >= 1 windows of at least {least} tokens, got {ids.shape}")
    if ids.min() < 0 or ids.max() >= vocab:
        raise InputError(f"{name}: token ids must be in 0..{vocab - 1}, got {ids.min()}..{ids.max()}")
    return ids


def read_windows(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file, never unpickled; InputError when it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, EOFError, MemoryError, TypeError, OverflowError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path}: not a .npy file of numbers ({reason})") from None
