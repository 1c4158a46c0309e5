"""What a machine makes of one op's zeros, as the kernels read it: columns of :mod:`sim.sparse_ops`' table."""

from __future__ import annotations

(
    S_NONZEROS,
    S_PACKED_K,  # K as it is multiplied: n:m pruned inputs left out
    S_STORED_BYTES,  # of weights in DRAM, one pass over them
    S_ROOM_BYTES,  # to provision for all of them on chip
    S_PASS,  # cycles of lanes for one pass over the weights, uncut; granules of weights of an outer-product array
    S_RESTART,
    S_ARRAY_BYTES,  # of weights on chip, one pass
    S_CUT_PASS,  # cycles of a pass that tiles cut
    S_GRAIN,  # multiples that K (or what lanes walk) is cut in
    S_EFFECTUAL,  # share of the MACs performed that no zero gates
    S_DECODED,  # what decoders count of one pass of the weights: stored values or elements; 0 where none is needed
    S_DECODE_CYCLES,  # that decoders of one array would take for one pass; 0 where they keep up
    S_FOLDS,  # share of a systolic array's folds (or of its stream) that are not empty blocks of weights
    S_INPUT_GRANULES,  # of an outer-product array: granules of nonzero inputs at a position of K, mean, all M
    S_INPUT_DENSITY,
    S_POSITIONS,  # share of the positions of K that an array with position skipping takes
    S_WEIGHT_FOLDS,  # the same of what is read of the weights: 1 where their format leaves empty blocks out already
) = range(17)
SPARSE_COLUMNS = 17
S_EMPTY = SPARSE_COLUMNS  # only with features at memory levels: :mod:`sim.sparsity.emptiness` of inputs, of weights
