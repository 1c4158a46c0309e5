"""Formats by name."""

from __future__ import annotations

from typing import Any

from sim.errors import InputError, nearest
from sim.sparsity.formats.base import Format
from sim.sparsity.formats.bitmap import Bitmap
from sim.sparsity.formats.block import Block
from sim.sparsity.formats.coo import Coo
from sim.sparsity.formats.csc import Csc
from sim.sparsity.formats.csr import Csr
from sim.sparsity.formats.dense import Dense
from sim.sparsity.formats.huffman import Huffman
from sim.sparsity.formats.n_of_m import NofM
from sim.sparsity.formats.ranks import Ranks
from sim.sparsity.formats.run_length import RunLength
from sim.sparsity.formats.tca_bme import TcaBme
from sim.sparsity.formats.tiled_csl import TiledCsl
from sim.sparsity.formats.two_four_residual import TwoFourResidual

_ALL = (Dense, Bitmap, NofM, Csr, Csc, Coo, RunLength, Block, TiledCsl, TcaBme, TwoFourResidual, Huffman, Ranks)

FORMATS: dict[str, type[Format]] = {cls.name: cls for cls in _ALL}


def format_of(name: str, **options: Any) -> Format:
    """A format by name with its options.

    Raises:
        InputError: an unknown format or option, or an option out of range.
    """
    if name not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, got '{name}', {nearest(name, FORMATS)}")
    known = FORMATS[name].__dataclass_fields__
    for option in options:
        if option not in known:
            raise InputError(f"format {name} has no option '{option}', {nearest(option, known)}")
    return FORMATS[name](**options)
