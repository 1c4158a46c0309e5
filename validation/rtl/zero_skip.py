"""Zero-skipping lanes measured in RTL: builds, masks, the tables, and what the recurrence says of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sim.sparsity import lanes
from validation.rtl.build import Build, run_all, verilator_version

DEEPEST = 8
DEPTHS = (1, 2, 4, 8)
SIZES = ((4, 16), (4, 64), (16, 16), (16, 32))
TWO_VECTORS = (8, 32)
SHARED_SIZES = ((16, 16), (16, 32))
PORTS = (1, 2, 4, 16)
TILES = 9
DENSITIES = (0.05, 0.1, 0.3, 0.5, 0.9)

Masks = Mapping[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]
"""key -> (weights [owners, positions], activations [positions]), True = not zero."""


def masks() -> Masks:
    """Every mask of every (lanes, tile): uniform, extreme, and uneven in each of three ways.

    The last lane group is short of owners and the last tile short of positions.
    """
    made: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {}
    for lane_count, tile in (*SIZES, TWO_VECTORS):
        shape = (2 * lane_count + lane_count // 4, TILES * tile + 5)
        random = np.random.default_rng([lane_count, tile])
        chance = {f"uniform_{density}": np.full(shape, density) for density in (0.0, *DENSITIES, 1.0)}
        chance["busy_owner"] = np.where(np.arange(shape[0])[:, None] % lane_count == 1, 0.9, 0.2) * np.ones(shape)
        chance["busy_tile"] = np.repeat(random.random((shape[0], TILES + 1)), tile, axis=1)[:, : shape[1]]
        chance["busy_position"] = np.broadcast_to(random.random(shape[1]), shape)
        for name, probability in chance.items():
            weights = random.random(shape) < probability
            made[f"P{lane_count}_T{tile}_{name}"] = weights, np.ones(shape[1], bool)
        both = random.random(shape) < 0.5, random.random(shape[1]) < 0.6
        made[f"P{lane_count}_T{tile}_two_sided"] = both
    return made


def output_builds() -> list[Build]:
    """Lanes that own output features, behind a barrier and behind queues."""
    return [
        Build(
            "zero_skip_output",
            "zero_skip.cpp",
            {"P": lane_count, "T": tile, "FIFO": fifo, "V": vectors},
            {"LANES": lane_count, "TILE": tile, "VECTORS": vectors, "INPUT_LANES": 0},
            ("zero_skip_lane",),
        )
        for lane_count, tile, vectors in (*((*size, 1) for size in SIZES), (*TWO_VECTORS, 2))
        for fifo in (0, DEEPEST)
    ]


def input_builds() -> list[Build]:
    """Lanes that own input features: with private accumulators and adder trees, and with shared accumulators."""
    private = [("zero_skip_input", size, {"FIFO": fifo}) for size in SIZES for fifo in (0, DEEPEST)]
    shared = [("zero_skip_shared", size, {"TURN": turn}) for size in SHARED_SIZES for turn in (0, 1)]
    return [
        Build(
            top,
            "zero_skip.cpp",
            {"P": lane_count, "T": tile, **parameters},
            {"LANES": lane_count, "TILE": tile, "VECTORS": 1, "INPUT_LANES": 1},
            ("zero_skip_lane",),
        )
        for top, (lane_count, tile), parameters in private + shared
    ]


def bits(mask: NDArray[np.bool_]) -> str:
    """A one-dimensional mask as 0/1 text."""
    return "".join("1" if kept else "0" for kept in mask)


def limits(build: Build) -> tuple[int, ...]:
    """What ``build`` is run with: tiles that may wait in a queue, or products an accumulator adds a cycle."""
    if build.top == "zero_skip_shared":
        return PORTS
    return DEPTHS if build.parameters["FIFO"] else (0,)


def cases(build: Build, from_masks: Masks) -> Iterator[str]:
    """Everything ``build`` measures, one line each (see the bench)."""
    prefix = f"P{build.parameters['P']}_T{build.parameters['T']}_"
    input_lanes = bool(build.defines["INPUT_LANES"])
    for key, (weights, activations) in from_masks.items():
        if not key.startswith(prefix) or (input_lanes and not activations.all()):
            continue
        owners, positions = weights.shape
        broadcast = np.ones(owners, bool) if input_lanes else activations
        text = " ".join([bits(broadcast), *map(bits, weights)])
        for limit in limits(build):
            yield f"{key} {limit} {owners} {positions} {zlib.crc32(key.encode())} {text}"


def counts(mask: tuple[NDArray[np.bool_], NDArray[np.bool_]], tile: int) -> NDArray[np.int64]:
    """Work [owners, tiles] of a mask."""
    return lanes.tile_counts(mask[0] & mask[1], tile)


def measure(folder: Path, workers: int | None = None) -> pd.DataFrame:
    """Build and run below ``folder``: one row a (build, mask, limit).

    Columns: ``ports`` products that a shared accumulator adds a cycle (0: accumulators are not shared); ``turn`` 1
    where lanes search from different positions; ``cycles`` to the last accumulator final, ``cycles_reduced`` to the
    last sum over lanes visible (the same where no adder tree follows), both summed over lane groups; ``dens_w``,
    ``dens_a`` fractions; ``nnz_total`` products; ``sum_tile_max`` sum over groups and tiles of the busiest lane;
    ``mac_utilisation`` products / (lanes x cycles); ``numeric_ok`` 1 when every sum equals the reference product.
    """
    from_masks, version = masks(), verilator_version()
    builds = output_builds() + input_builds()
    jobs = [(build, "".join(f"{line}\n" for line in cases(build, from_masks))) for build in builds]
    rows = []
    for build, answer in zip(builds, run_all(jobs, folder, workers), strict=True):
        lane_count, tile = build.parameters["P"], build.parameters["T"]
        for key, limit, cycles, reduced, exact in answer:
            work = counts(from_masks[key], tile)
            starts = range(0, len(work), lane_count)
            rows.append(
                {
                    "mask_key": key,
                    "array": build.top.removeprefix("zero_skip_"),
                    "P": lane_count,
                    "T": tile,
                    "V": build.parameters.get("V", 1),
                    "ports": int(limit) if build.top == "zero_skip_shared" else 0,
                    "turn": build.parameters.get("TURN", 0),
                    "groups": len(starts),
                    "tiles": work.shape[1],
                    "fifo_depth": int(limit) if build.parameters.get("FIFO") else 0,
                    "dens_w": round(float(from_masks[key][0].mean()), 4),
                    "dens_a": round(float(from_masks[key][1].mean()), 4),
                    "nnz_total": int(work.sum()),
                    "sum_tile_max": int(sum(work[at : at + lane_count].max(axis=0).sum() for at in starts)),
                    "cycles": int(cycles),
                    "cycles_reduced": int(reduced),
                    "mac_utilisation": round(int(work.sum()) / (lane_count * int(cycles)), 4),
                    "numeric_ok": int(exact),
                    "source": build.source,
                    "verilator": version,
                }
            )
    return pd.DataFrame(rows)


def predicted(rows: pd.DataFrame, from_masks: Masks) -> NDArray[np.int64]:
    """``sim.sparsity.lanes.cycles`` of every row, summed over its lane groups."""
    found = []
    for row in rows.itertuples():
        work = counts(from_masks[row.mask_key], row.T)
        groups = [work[at : at + row.P] for at in range(0, len(work), row.P)]
        found.append(sum(int(lanes.cycles(group, row.fifo_depth)) for group in groups))
    return np.array(found, np.int64)


def lanes_may_wait(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows whose lanes share accumulators that cannot add the products of all lanes in one cycle."""
    return np.asarray((rows.ports > 0) & (rows.ports < rows.P))


def drain_cycles(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Cycles between the last accumulator and the last sum: an adder level each, once a lane group."""
    levels = np.ceil(np.log2(rows.P)).astype(np.int64)
    return np.asarray(np.where(rows.array == "input", rows.groups * levels, 0))


def stored(from_masks: Masks) -> pd.DataFrame:
    """The masks as a table: key, owner (-1: the shared activations), positions, hexadecimal bits (big end first)."""
    return pd.DataFrame(
        [
            {"mask_key": key, "owner": owner, "positions": mask.size, "bits": np.packbits(mask).tobytes().hex()}
            for key, (weights, activations) in from_masks.items()
            for owner, mask in ((-1, activations), *enumerate(weights))
        ]
    )


def restored(table: pd.DataFrame) -> Masks:
    """The masks of :func:`stored`, read as text."""
    made = {}
    for key, rows in table.groupby("mask_key", sort=False):
        size = int(rows.positions.iloc[0])
        every = np.array([np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:size] for text in rows.bits])
        made[str(key)] = every[1:].astype(bool), every[0].astype(bool)
    return made
