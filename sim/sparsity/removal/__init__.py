"""Rows (output features) and columns (input features) that do nothing, taken out of a matrix so that its GEMM shrinks.

:mod:`~sim.sparsity.removal.dead` finds what may go, :mod:`~sim.sparsity.removal.between` shrinks what runs between two
matrices that lose the same features, :mod:`~sim.sparsity.removal.cost` prices what no neighbour absorbs, and
:mod:`~sim.sparsity.removal.transform` applies it all to a trace.
"""
