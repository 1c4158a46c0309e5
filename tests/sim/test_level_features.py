"""Gating and skipping at memory levels, of blocks and of positions, in the search and in both engines."""

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import strategies as st
from laws.check import law, search_is_exact
from laws.strategies import featured, gemms, machines
from test_laws_slow import as_fixed

from accel_models import accelerator
from dse.sweep import sweep
from sim import analytic
from sim.cost import area
from sim.cost.energy import prices
from sim.designs import OBJECTIVES, Designs
from sim.errors import InputError
from sim.simulate import simulate
from sim.sparsity import emptiness, level_features
from sim.sparsity.density import Actual
from sim.sparsity.features import Features, Saf, count
from sim.sparsity.profile import ProfileTable, profile
from sim.trace import Trace, gemm

RNG = np.random.default_rng(7)


def run(name, trace, engine="analytic", **fields):
    return simulate(accelerator(name).override(fields), trace, engine)


def row(report):
    return report.table.iloc[0]


# notation


def test_notation_by_hand():
    both = level_features.parse("skip inputs <-> weights by vector")
    assert both == (
        level_features.LevelFeature("skip", "inputs", ("weights",), "vector"),
        level_features.LevelFeature("skip", "weights", ("inputs",), "vector"),
    )
    (sums,) = level_features.parse(" gate outputs <- inputs & weights ")
    assert (sums.kind, sums.target, sums.leaders, sums.granule) == ("gate", "outputs", ("inputs", "weights"), "tile")
    assert level_features.codes("")["weights"] == 0
    assert (
        len(
            {
                level_features.codes(f"{k} weights <- inputs{g}")["weights"]
                for k in ("gate", "skip")
                for g in ("", " by vector")
            }
        )
        == 4
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("skip weights", "must look like"),
        ("skip weigths <- inputs", "did you mean 'weights'"),
        ("drop weights <- inputs", "'drop' is unknown"),
        ("skip weights <- weights", "cannot lead themselves"),
        ("skip weights <- outputs", "'outputs' is unknown"),
        ("skip outputs <-> inputs", "'outputs' is unknown"),
        ("skip weights <- inputs, gate weights <- inputs", "have one already"),
        ("skip weights <- inputs by row", "'row' is unknown"),
    ],
)
def test_bad_notation_is_one_clear_line(text, told):
    with pytest.raises(InputError, match=told) as caught:
        accelerator("dense_ws").override({"memory.shared.features": text})
    assert "memory.shared.features" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "text", "told"),
    [
        ("memory.weight_buffer.features", "skip inputs <- weights", "does not keep them"),
        ("dram.features", "gate weights <- inputs", "DRAM can only skip"),
        ("dram.features", "skip outputs <- inputs", "DRAM can only skip"),
    ],
)
def test_features_that_a_place_cannot_have(field, text, told):
    with pytest.raises(InputError, match=told):
        accelerator("dense_ws").override({field: text})


def test_block_skipping_is_for_systolic_arrays_without_n_of_m():
    for name in ("sparse_lanes", "nm_24"):
        with pytest.raises(InputError, match="block_skipping"):
            accelerator(name).override({"sparsity.block_skipping": True})


# how often tiles are empty


def by_elements(mask, rows, columns):
    """Share of the elements that lie in empty tiles."""
    empty = Actual(mask).nonzeros(rows, columns) == 0
    down, across = (
        np.minimum(side, size - np.arange(0, size, side))
        for side, size in zip((rows, columns), mask.shape, strict=True)
    )
    return float(down @ empty @ across) / mask.size


def test_a_tile_within_another_is_empty_no_less_often():
    """A short last tile that is empty must not weigh as much as a full one."""
    mask = np.ones((33, 7), dtype=bool)
    mask[32] = False
    table = emptiness.of_mask(mask).ravel()
    shares = [emptiness.empty_share(table, rows, 1.0) for rows in (1.0, 2.0, 8.0, 20.0, 32.0)]
    assert (np.diff(shares) <= 1e-12).all() and shares[0] == pytest.approx(1 / 33)


@pytest.mark.parametrize("shape", [(64, 64), (37, 100), (1, 300), (130, 1)])
def test_table_of_a_mask_is_exact_at_powers_of_two(shape):
    mask = RNG.random(shape) < 0.15
    table = emptiness.of_mask(mask).ravel()
    for rows in (1, 2, 8, 32):
        for columns in (1, 4, 16, 64):
            if rows <= shape[0] and columns <= shape[1]:
                found = emptiness.empty_share(table, float(rows), float(columns))
                assert found == pytest.approx(by_elements(mask, rows, columns), abs=1e-9)
    whole = emptiness.empty_share(table, float(shape[0]), 1.0)
    assert whole == pytest.approx(by_elements(mask, shape[0], 1), abs=1e-9)


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 0.97])
def test_independent_zeros_are_exact_at_any_size(density):
    table = emptiness.independent(density, 512, 0).ravel()
    for vectors, positions in ((1, 1), (3, 1), (1, 5), (7, 11), (100, 3)):
        wanted = (1 - density) ** (vectors * positions)
        assert emptiness.empty_share(table, float(vectors), float(positions)) == pytest.approx(wanted, abs=1e-9)


def test_a_measured_union_holds_at_one_vector_and_at_all():
    table = emptiness.independent(0.4, 64, 0.75).ravel()
    assert emptiness.empty_share(table, 1.0, 1.0) == pytest.approx(0.6)
    assert emptiness.empty_share(table, 64.0, 1.0) == pytest.approx(0.25)
    between = [emptiness.empty_share(table, float(v), 1.0) for v in (1, 2, 8, 33, 64)]
    assert (np.diff(between) < 0).all()


def test_table_of_a_profile_is_exact_where_the_profile_counted():
    blocks = np.kron(RNG.random((16, 16)) < 0.5, np.ones((8, 8), dtype=bool))
    mask = blocks & (RNG.random(blocks.shape) < 0.6)
    found = profile(mask)
    table = emptiness.of_profile(
        emptiness.spread(*mask.shape, mask.sum()), ProfileTable.from_profiles([found]), 0
    ).ravel()
    for side in (2, 4, 8, 16):
        wanted = Actual(mask).empty(side, side)
        assert emptiness.empty_share(table, float(side), float(side)) == pytest.approx(wanted, abs=1e-6)
    assert emptiness.empty_share(table, 1.0, 8.0) == pytest.approx(Actual(mask).empty(1, 8), abs=1e-6)


# what the machine makes of it


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
def test_dram_fetches_only_weights_whose_input_is_there(engine):
    """Decode, one vector: half of the inputs are zero, so half of the weights stay where they are."""
    trace = gemm(m=1, k=576, n=1536, input_density=0.5)
    plain, found = (
        run("dense_ws", trace, engine),
        run("dense_ws", trace, engine, **{"dram.features": "skip weights <- inputs by vector"}),
    )
    weights = 576 * 1536
    assert row(plain)["dram_read_bytes"] - row(found)["dram_read_bytes"] == pytest.approx(weights / 2, rel=0.02)
    assert row(found)["dram_skipped_bytes"] == pytest.approx(weights / 2)
    assert row(found)["cycles"] < row(plain)["cycles"] and found.energy_pj < plain.energy_pj


def test_a_batch_needs_the_union_of_its_vectors():
    fields = {"dram.features": "skip weights <- inputs by vector", "memory.shared.capacity_kib": 4096}
    fetched = []
    for batch in (1, 2, 3, 8):
        trace = gemm(m=batch, k=576, n=1536, input_density=0.5)
        fetched.append(row(run("dense_ws", trace, **fields))["dram_skipped_bytes"] / (576 * 1536))
    assert fetched == pytest.approx([0.5, 0.25, 0.125, 0.5**8])
    trace = gemm(m=8, k=576, n=1536, input_density=0.5)
    trace.ops["input_union"] = 0.6
    measured = run("dense_ws", trace, **fields)
    assert row(measured)["dram_skipped_bytes"] == pytest.approx(0.4 * 576 * 1536)


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
def test_gating_saves_energy_and_skipping_time_too(engine):
    """The weight buffer is what holds this machine up."""
    slow = {"memory.weight_buffer.bandwidth_gb_per_s": 12.0}
    trace = gemm(m=1, k=576, n=1536, input_density=0.25)
    plain = run("dense_ws", trace, engine, **slow)
    gate, skip = (
        run(
            "dense_ws",
            trace,
            engine,
            **slow,
            **{"memory.weight_buffer.features": f"{kind} weights <- inputs by vector"},
        )
        for kind in ("gate", "skip")
    )
    assert row(skip)["cycles"] < 0.9 * row(plain)["cycles"]
    assert row(gate)["cycles"] >= row(plain)["cycles"]
    level = [r.energy["weight_buffer"] for r in (plain, gate, skip)]
    assert level[1] < 0.8 * level[0] and level[2] < 0.8 * level[0]
    assert row(gate)["weight_buffer_gated_bytes"] > 0 == row(gate)["weight_buffer_skipped_bytes"]
    assert row(skip)["weight_buffer_skipped_bytes"] > 0 == row(skip)["weight_buffer_gated_bytes"]


@pytest.mark.parametrize("feature", ["skip inputs <- weights", "skip weights <- inputs", "gate weights <- inputs"])
@pytest.mark.parametrize("shape", [(1, 256, 128), (32, 256, 128), (4, 512, 64), (64, 1024, 768)])
def test_shares_are_those_of_the_printed_nest(feature, shape):
    """The written nest, counted by :mod:`sim.sparsity.features`, avoids the same share of the shared level's reads."""
    machine = accelerator("dense_ws")
    kind, target, _, leader = feature.split()
    m, k, n = shape
    mask = RNG.random((n, k)) < 0.0003
    trace = gemm(m=m, k=k, n=n, sparsity=mask, input_density=0.0003)
    skipping = machine.override({"memory.shared.features": feature})
    report = simulate(skipping, trace)
    nest = report.nests[row(report)["name"]]
    models = {"weights": Actual(mask), "inputs": _Bernoulli((m, k), 0.0003)}
    wanted = count(nest, models, Features((Saf(kind, "shared", target, (leader,)),))).accesses["shared", target].reads
    share = (wanted.skipped + wanted.gated) / wanted.algorithmic
    bits = row(report)["intersections"] / 8
    buffer = {"weights": "weight_buffer", "inputs": "input_buffer"}[target]
    avoided = row(report)[f"{buffer}_{'gated' if kind == 'gate' else 'skipped'}_bytes"]
    detail = analytic.run_detailed(Designs.from_machines([skipping]), trace, "latency")
    passed = row(simulate(machine, trace, mapping=as_fixed(detail.mappings[0], len(machine.tiers))))
    moved = passed[f"{buffer}_read_bytes"] + passed[f"{buffer}_write_bytes"]
    assert avoided / moved == pytest.approx(share, rel=1e-6)
    assert bits < 0.01 * avoided or share == 0


@pytest.mark.parametrize("granule", ["", " by vector"])
@pytest.mark.parametrize("m", [1, 2])
def test_what_the_array_reads_by_hand(m, granule):
    """Weight stationary, 32 x 32: a fold of weights goes with m x 32 inputs, a row of it with m x 1."""
    density = 0.1
    feature = {"memory.weight_buffer.features": f"gate weights <- inputs{granule}"}
    trace = gemm(m=m, k=576, n=1536, input_density=density)
    found = row(run("dense_ws", trace, **feature))
    empty = (1 - density) ** (m * (1 if granule else 32))
    assert found["weight_buffer_gated_bytes"] == pytest.approx(empty * 576 * 1536, rel=1e-6)
    looked = 576 * 1536 / (32 * 1 if granule else 32 * 32)
    assert found["intersections"] == pytest.approx(looked)


class _Bernoulli(Actual):
    """Inputs that are zero independently of each other."""

    def __init__(self, shape, density):
        super().__init__(np.ones(shape, dtype=bool))
        object.__setattr__(self, "_share", density)

    def empty(self, rows, columns):
        rows, columns = min(rows, self.shape[0]), min(columns, self.shape[1])
        return (1 - self._share) ** (rows * columns)


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
def test_an_array_passes_over_empty_blocks_of_weights(dataflow, engine):
    """Three quarters of the 32 x 32 blocks empty; weights stay dense in memory."""
    blocks = np.zeros((12, 8), dtype=bool)
    blocks[::2, ::2] = True
    mask = np.kron(blocks, np.ones((32, 32), dtype=bool))
    trace = gemm(m=256, k=256, n=384, sparsity=mask)
    plain, found = (
        run("dense_ws", trace, engine, **{"array.dataflow": dataflow, "sparsity.block_skipping": on})
        for on in (False, True)
    )
    share = {"ws": 0.25, "os": 0.5 * 0.5, "is": 0.5 * 0.5}[dataflow]
    assert row(found)["compute"] == pytest.approx(row(plain)["compute"] * share)
    assert row(found)["macs"] == pytest.approx(256 * mask.sum())
    assert row(found)["macs"] + row(found)["skipped_macs"] == 256 * mask.size
    assert row(found)["cycles"] < 0.6 * row(plain)["cycles"]
    assert row(found)["weights_are"] == "blocks counted"


def test_a_mask_without_empty_blocks_gains_nothing_from_skipping_them():
    trace = gemm(m=64, k=256, n=256, sparsity=RNG.random((256, 256)) < 0.5)
    plain, found = (run("dense_ws", trace, **{"sparsity.block_skipping": on}) for on in (False, True))
    assert row(found)["dram_read_bytes"] == row(plain)["dram_read_bytes"] + 8 * 8 / 8  # a bit a block
    assert row(plain)["cycles"] <= row(found)["cycles"] <= 1.01 * row(plain)["cycles"]


@pytest.mark.parametrize(("name", "dataflow"), [("dense_ws", "ws"), ("dense_ws", "os"), ("sparse_lanes", "ws")])
def test_positions_without_inputs_take_no_array_time(name, dataflow):
    trace = gemm(m=1, k=1024, n=512, input_density=0.25)
    fast = {"dram.bandwidth_gb_per_s": 2000.0, "memory.shared.banks": 64, "memory.shared.bandwidth_gb_per_s": 1600.0}
    fast["array.dataflow"] = dataflow
    plain, found = (run(name, trace, **fast, **{"sparsity.position_skipping": on}) for on in (False, True))
    assert row(found)["compute"] == pytest.approx(0.25 * row(plain)["compute"])
    assert row(found)["macs"] == pytest.approx(0.25 * row(plain)["macs"])
    assert row(found)["cycles"] < 0.7 * row(plain)["cycles"]


FIELDS = [
    ("dense_ws", {"memory.shared.features": "gate weights <- inputs"}),
    ("dense_ws", {"memory.shared.features": "skip weights <-> inputs by vector"}),
    ("dense_ws", {"memory.weight_buffer.features": "skip weights <- inputs by vector"}),
    ("dense_ws", {"memory.accumulator.features": "skip outputs <- weights & inputs"}),
    ("dense_ws", {"dram.features": "skip weights <- inputs by vector"}),
    ("dense_ws", {"sparsity.block_skipping": True}),
    ("sparse_lanes", {"sparsity.position_skipping": True}),
]


@pytest.mark.parametrize(("name", "fields"), FIELDS)
def test_nothing_is_free(name, fields):
    """Features cost area; without zeros they gain nothing."""
    plain, found = (Designs.from_machines([accelerator(name).override(f)]) for f in ({}, fields))
    total = [sum(part[0] for part in area.area(designs).values()) for designs in (plain, found)]
    assert total[1] > total[0]
    dense = gemm(m=32, k=256, n=256)
    before, after = run(name, dense), run(name, dense, **fields)
    assert row(after)["cycles"] >= row(before)["cycles"]
    assert after.energy_pj >= before.energy_pj


def test_double_sided_costs_more_than_single_sided():
    texts = ("skip weights <- inputs", "skip weights <-> inputs", "skip weights <-> inputs by vector")
    made = [accelerator("dense_ws").override({"memory.shared.features": text}) for text in texts]
    mm2 = [area.area(Designs.from_machines([machine]))["shared"][0] for machine in made]
    assert mm2[0] < mm2[1] < mm2[2]


@pytest.mark.parametrize("name", ["dense_ws", "nm_24", "sparse_lanes"])
def test_positions_that_are_skipped_are_not_gated_as_well(name):
    """One vector: what is left has inputs, so gating by inputs finds nothing more."""
    mask = np.tile([True, False, True, False], (64, 16))
    trace = gemm(m=1, k=64, n=64, sparsity=mask, input_density=0.25)
    skips = {"sparsity.position_skipping": True}
    found = row(run(name, trace, **skips, **{"sparsity.gating": "inputs"}))
    alone = row(run(name, trace, **skips))
    assert found["macs"] == alone["macs"] == 0.25 * row(run(name, trace))["macs"]
    assert found["gated_mac_cycles"] == 0


@pytest.mark.parametrize("engine", ["analytic", "timeline"])
def test_gating_does_not_speed_up_a_network(engine):
    narrow = {"network.bandwidth_gb_per_s": 1.0, "network.hop_mm": 1.0}
    trace = gemm(m=1, k=576, n=1536, input_density=0.1)
    feature = {"memory.shared.features": "gate weights <- inputs by vector"}
    plain, found = (run("dense_ws", trace, engine, **narrow, **more) for more in ({}, feature))
    assert row(found)["cycles"] >= row(plain)["cycles"] and found.energy["network"] < 0.3 * plain.energy["network"]


def test_arrays_that_share_an_operand_share_its_fate():
    """One read serves both arrays: the inputs of both must be empty."""
    trace = gemm(m=32, k=64, n=64, input_density=0.1)
    feature = {"memory.shared.features": "gate weights <- inputs by vector", "array.split": "m"}
    one, two = (row(run("dense_ws", trace, **feature, **{"array.count": count})) for count in (1, 2))
    assert two["shared_gated_bytes"] == pytest.approx(one["shared_gated_bytes"], rel=0.02)


def test_what_goes_together_is_checked_together():
    trace = gemm(m=8, k=64, n=64)
    for field in ("block_skipping", "position_skipping"):
        with pytest.raises(InputError, match="outer_product"):
            sweep(accelerator("dense_ws"), trace, {"array.kind": ["outer_product"], f"sparsity.{field}": [True]})


def test_pruned_is_exhaustive_where_the_last_tile_is_empty():
    for n in (65, 129, 257):
        mask = np.ones((n, 256), dtype=bool)
        mask[n - 1] = False
        fields = {"memory.shared.features": "skip inputs <- weights", "memory.shared.bandwidth_gb_per_s": 2.0}
        designs = Designs.from_machines([accelerator("dense_ws").override(fields)])
        trace = gemm(m=256, k=256, n=n, sparsity=mask)
        pruned, full = (analytic.run(designs, trace, effort=e) for e in ("full", "exhaustive"))
        assert (pruned.columns == full.columns).all()


def test_crossbars_cost_energy_where_vectors_and_positions_are_skipped():
    texts = ("", "skip weights <- inputs", "skip weights <- inputs by vector")
    made = [accelerator("dense_ws").override({"memory.shared.features": text}) for text in texts]
    made.append(made[0].override({"sparsity.position_skipping": True}))
    price = prices(Designs.from_machines(made))
    read, mac = price["level0_read_bytes"], price["macs"]
    assert read[0] == read[1] == read[3] < read[2] < 2 * read[0]
    assert mac[0] == mac[1] == mac[2] < mac[3]


# laws


@law(
    machines(most_tiers=2, arithmetics=("parallel",)).flatmap(featured),
    gemms(sizes=st.integers(1, 300)),
    st.sampled_from(list(OBJECTIVES)),
    st.sampled_from((0.02, 0.4, 1.0)),
    quick=12,
    many=300,
)
def test_pruned_is_exhaustive(machine, trace, objective, density):
    trace.ops["input_density"] = density
    search_is_exact(machine, trace, objective)


@law(
    machines(most_tiers=3).flatmap(featured),
    gemms(sizes=st.integers(1, 300)),
    st.sampled_from((0.02, 0.5)),
    st.sampled_from(("analytic", "timeline")),
    quick=15,
    many=300,
)
def test_every_access_is_actual_gated_or_skipped(machine, trace, density, engine):
    """Under one mapping: what moves, is gated and is skipped is what moves without features, the bits of look-ups and
    of block maps aside; every MAC of the dense GEMM is done, gated or skipped, and no PE does two a cycle."""
    trace.ops["input_density"] = density
    off = {f"memory.{name}.features": "" for name in machine.memory} | {"dram.features": ""}
    off |= {"sparsity.block_skipping": False, "sparsity.position_skipping": False}
    try:
        found = row(simulate(machine, trace, engine))
        detail = analytic.run_detailed(Designs.from_machines([machine]), trace, "latency")
        fixed = as_fixed(detail.mappings[0], len(machine.tiers))
        plain = row(simulate(machine.override(off), trace, engine, mapping=fixed))
    except InputError:
        assume(False)
    bits = found["intersections"] / 8
    shapes = trace.ops[["batch", "m", "n", "k"]].iloc[0]
    maps = machine.sparsity.block_skipping
    for level in machine.memory:
        moved = found[f"{level}_read_bytes"] + found[f"{level}_write_bytes"]
        avoided = found[f"{level}_gated_bytes"] + found[f"{level}_skipped_bytes"]
        wanted = plain[f"{level}_read_bytes"] + plain[f"{level}_write_bytes"]
        assert moved + avoided >= wanted * (1 - 1e-9) - 1e-6
        assert maps or moved + avoided <= wanted * (1 + 1e-9) + bits + 1e-6
    dram = found["dram_read_bytes"] + found["dram_write_bytes"] + found["dram_skipped_bytes"]
    assert maps or dram == pytest.approx(plain["dram_read_bytes"] + plain["dram_write_bytes"])
    if plain["macs"]:
        gated = found["gated_mac_cycles"] * (plain["macs"] / plain["mac_cycles"])
        assert found["macs"] + gated + found["skipped_macs"] == pytest.approx(shapes.prod())
    elements = machine.array.rows * machine.array.cols * machine.array.count
    assert found["mac_cycles"] + found["gated_mac_cycles"] <= found["cycles"] * elements * (1 + 1e-9)


@law(
    machines(most_tiers=3).flatmap(featured),
    gemms(sizes=st.integers(1, 300)),
    st.sampled_from((0.02, 0.5)),
    st.sampled_from(("analytic", "timeline")),
    quick=15,
    many=300,
)
def test_a_gate_saves_no_time_and_a_skip_costs_its_look_ups_at_most(machine, trace, density, engine):
    """Under one mapping, machine by machine: nothing, all of its features as gates, as they are. DRAM's vectors are
    runs of their own, so they are left out."""
    trace.ops["input_density"] = density
    levels = {f"memory.{name}.features": level.features for name, level in machine.memory.items()}
    rest = {"dram.features": "", "sparsity.position_skipping": False, "sparsity.gating": "none"}
    base = machine.override(rest | ({"sparsity.block_skipping": False} if machine.array.kind == "systolic" else {}))
    gates = base.override({path: text.replace("skip", "gate") for path, text in levels.items()})
    nothing = base.override(dict.fromkeys(levels, ""))
    try:
        detail = analytic.run_detailed(Designs.from_machines([base]), trace, "latency")
        fixed = as_fixed(detail.mappings[0], len(machine.tiers))
        plain, gated, found = (row(simulate(m, trace, engine, mapping=fixed)) for m in (nothing, gates, base))
    except InputError:
        assume(False)
    assert gated["cycles"] >= plain["cycles"] * (1 - 1e-9)
    assert found["cycles"] <= gated["cycles"] * (1 + 1e-9)
    slowest = min(level.bandwidth_gb_per_s for level in machine.memory.values()) / machine.clock_ghz / 2
    assert gated["cycles"] <= plain["cycles"] + 2 * gated["intersections"] / 8 / slowest + 1e-6


def test_features_stay_with_a_saved_trace(tmp_path):
    trace = gemm(m=4, k=64, n=64, input_density=0.5)
    trace.ops["input_union"] = 0.8
    trace.save(tmp_path / "t")
    assert Trace.load(tmp_path / "t").ops["input_union"].iloc[0] == 0.8
