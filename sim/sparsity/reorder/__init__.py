"""Orders of the rows (output features) and columns (input features) of masks: what they gain and what they cost.

A matrix may be stored in any order of its features if its inputs come and its outputs leave in that order. Where the
neighbours of a matrix can take the same order, it is free (:mod:`~sim.sparsity.reorder.dimensions`); elsewhere
activations are gathered or scattered at run time (:mod:`~sim.sparsity.reorder.cost`). Three methods look for orders:
:mod:`~sim.sparsity.reorder.balance`, :mod:`~sim.sparsity.reorder.cluster` and :mod:`~sim.sparsity.reorder.pattern`.
:mod:`~sim.sparsity.reorder.transform` applies one of them to a trace.
"""
