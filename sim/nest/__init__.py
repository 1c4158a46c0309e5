"""Loop nests: a mapping as people write it, evaluated exactly (:class:`~sim.nest.nest.Nest`)."""

from sim.nest.count import Moves
from sim.nest.nest import Nest
from sim.nest.parts import OPERANDS, Level, Loop, Unroll
from sim.nest.room import Footprint

__all__ = ["OPERANDS", "Footprint", "Level", "Loop", "Moves", "Nest", "Unroll"]
