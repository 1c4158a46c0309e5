"""Memory words and their energy: counted from nests, with widths and prices read off the reference's own columns.

Widths: a port's word is the one power of two under which tiles x bits give the reference's count in all rows; prices:
one pJ a word read and one written for each memory, by least squares over all rows and operands.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd

from sim.errors import InputError
from sim.nest import Level, Nest
from sim.nest.count import visits
from sim.nest.room import tile_elements, width
from validation.zigzag.nests import OPERANDS

DIRECTIONS = ("rd_out_to_low", "wr_in_by_high", "wr_in_by_low", "rd_out_to_high")
"""ZigZag's names, in the order of ``sim.nest.Moves``: read_down, written_from_above, written_from_below, read_up."""
PORT = ["machine", "memory", "operand", "direction"]


def transfers(row, nest: Nest) -> list[dict]:
    """One record a memory, operand and direction of a row: ZigZag's words, and what to count them from.

    tile: elements that one replica of the memory moves at a time; bits: of an element; times: tiles, over all
    replicas, by ZigZag's rules (the first visit of a partial sum reads zeros, and what comes back goes to every
    replica). moved: elements by ``Nest.accesses``, which counts neither.
    """
    listed = json.loads(row.memory_word_access)
    moves = nest.accesses()
    found = []
    for letter, operand in OPERANDS.items():
        chain = nest.chain(operand)
        for place, level in enumerate(chain):
            inner = place + 1 < len(chain)
            at = chain[place + 1].position(operand) if inner else len(nest.loops)
            into = visits(nest, operand, at, inner or operand in nest.latched)
            own = visits(nest, operand, level.position(operand))
            replicas = math.prod(u.factor for u in nest.spatial.values() if u.axis in level.per)
            seen = tile_elements(nest, Level(level.name, (operand,), at, level.per), operand)
            held = tile_elements(nest, level, operand)
            rests = width(nest, level, operand)
            leaves = width(nest, chain[place - 1], operand) if place else 0
            partial = nest.bits["partial_sums"] if operand == "outputs" else 0
            both = {
                "rd_out_to_low": (seen, into, rests if operand != "outputs" or rests == partial else 0),
                "wr_in_by_high": (held, own, leaves if operand != "outputs" or leaves == partial else 0),
                "wr_in_by_low": (seen, into, rests if operand == "outputs" else 0),
                "rd_out_to_high": (held, own, leaves if operand == "outputs" else 0),
            }
            counted = listed[letter][len(chain) - 1 - place]
            for direction, moved in zip(DIRECTIONS, moves[level.name, operand], strict=False):
                tile, passing, bits = both[direction]
                record = {"row": row.Index, "machine": row.machine, "memory": level.name, "operand": operand}
                record |= {"direction": direction, "tile": tile, "bits": bits, "times": passing.tiles * replicas}
                found.append(record | {"moved": moved, "zigzag_words": counted[direction]})
    return found


def words(tile, bits, times, granule: int, word: int):
    """Words by ZigZag's rounding: each tile fills whole granules, the total is cut to a whole word."""
    return np.floor(np.ceil(tile * bits / granule) * (granule / word) * times)


def ports(moved: pd.DataFrame) -> pd.DataFrame:
    """Columns granule, word (bits) by :data:`PORT`: powers of two under which :func:`words` gives the reference's
    number in every row. The smallest such word of each port and, for all ports of a memory, the largest such granule.
    Raises InputError if nothing fits."""
    powers = [2**p for p in range(13)]
    word, granules = {}, {}
    for port, rows in moved[moved.zigzag_words > 0].groupby(PORT, sort=False):

        def fits(granule: int, bits: int, rows: pd.DataFrame = rows) -> bool:
            return bool((words(rows.tile, rows.bits, rows.times, granule, bits) == rows.zigzag_words).all())

        fitting = [bits for bits in powers if any(fits(granule, bits) for granule in powers if granule <= bits)]
        if not fitting:
            raise InputError(f"no word width explains {port}")
        word[port] = fitting[0]
        memory = port[:2]
        allowed = {granule for granule in powers if granule <= word[port] and fits(granule, word[port])}
        granules[memory] = granules.get(memory, allowed) & allowed
    found = pd.DataFrame({"word": pd.Series(word)})
    found.index.names = PORT
    found.insert(0, "granule", [max(granules[port[:2]]) for port in found.index])
    return found


def prices(rows: pd.DataFrame, moved: pd.DataFrame) -> pd.DataFrame:
    """Columns read, write: pJ a word by (machine, memory), the one pair that explains the reference's energies of all
    its rows and operands (least squares, rounded to 6 digits; :func:`compare` shows what is left over)."""
    spent = _per_operand(rows, moved, "zigzag_words")
    found = {}
    for key, part in spent.groupby(["machine", "memory"], sort=False):
        pair, *_ = np.linalg.lstsq(part[["read", "write"]].to_numpy(float), part.energy_pj.to_numpy(), rcond=None)
        found[key] = [float(f"{price:.6g}") for price in pair]
    table = pd.DataFrame.from_dict(found, orient="index", columns=["read", "write"])
    table.index = pd.MultiIndex.from_tuples(table.index, names=["machine", "memory"])
    return table


def _per_operand(rows: pd.DataFrame, moved: pd.DataFrame, column: str) -> pd.DataFrame:
    """Words read and written by (row, memory, operand) beside the reference's energy there (pJ)."""
    reads = moved.direction.str.startswith("rd")
    keys = ["row", "machine", "memory", "operand"]
    table = pd.DataFrame(
        {
            "read": moved[reads].groupby(keys)[column].sum(),
            "write": moved[~reads].groupby(keys)[column].sum(),
        }
    ).reset_index()
    spent = {
        (row.Index, memory, OPERANDS[letter]): energy
        for row in rows.itertuples()
        for memory, parts in json.loads(row.energy_by_memory_operand_pJ).items()
        for letter, energy in parts.items()
    }
    table["energy_pj"] = [spent[key] for key in zip(table.row, table.memory, table.operand, strict=True)]
    return table
