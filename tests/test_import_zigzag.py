"""ZigZag's files as machines and traces: roles of axes, memories, and its own runs' ideal cycles and DRAM words."""

import copy
import json

import pytest
import yaml

from sim.errors import InputError
from sim.simulate import simulate
from sim.trace import gemm
from sim.trace_tools.validate import violations
from sparchitect.peers import from_zigzag
from validation.zigzag import compare
from validation.zigzag.nests import MACHINES, reference


def memory(operands, bits, read, write=None, serves=(), shared=False, double=False):
    ports = [("read_write", read)] if shared else [("read", read), ("write", write or read)]
    return {
        "size": bits, "r_cost": 1.0, "w_cost": 1.0, "area": 0, "latency": 1, "operands": list(operands),
        "ports": [
            {"name": f"p{i}", "type": kind, "bandwidth_min": 8, "bandwidth_max": rate, "allocation": []}
            for i, (kind, rate) in enumerate(ports)
        ],
        "served_dimensions": list(serves), "force_double_buffering": double,
    }  # fmt: skip


ALL = ["I1", "I2", "O"]
# Sizes, rates, operands and served axes of zigzag-dse 3.9.1's tpu_like and edge_tpu_like (MIT), in its format.
TPU = {
    "name": "tpu_like",
    "memories": {
        "rf_128B": memory(["I2"], 1024, 8),
        "rf_2B": memory(["O"], 16, 16),
        "sram_2MB": memory(["I1", "O"], 16777216, 2048, serves=["D1", "D2"]),
        "dram": memory(ALL, 10000000000, 64, serves=["D1", "D2"], shared=True),
    },
    "operational_array": {"unit_energy": 0.04, "unit_area": 1, "dimensions": ["D1", "D2"], "sizes": [32, 32]},
}
FOUR = ["D1", "D2", "D3", "D4"]
EDGE = {
    "name": "edge",
    "memories": {
        "rf_1B": memory(["I2"], 8, 8, serves=["D3", "D4"]),
        "rf_2B": memory(["O"], 16, 16, serves=["D2"]),
        "sram_32KB": memory(["I2"], 262144, 512, serves=FOUR),
        "sram_2MB": memory(["I1", "O"], 16777216, 2048, serves=FOUR),
        "dram": memory(ALL, 10000000000, 64, serves=FOUR, shared=True),
    },
    "operational_array": {"dimensions": FOUR, "sizes": [8, 4, 2, 5], "input_precision": [4, 8]},
}


def dotted(raw, changes):
    raw = copy.deepcopy(raw)
    for path, value in changes.items():
        *parents, leaf = path.split(".")
        node = raw
        for key in parents:
            node = node[int(key)] if key.isdigit() else node[key]
        if value is None:
            del node[leaf]
        else:
            node[leaf] = value
    return raw


@pytest.fixture
def arch(tmp_path):
    def write(raw, changes=None):
        path = tmp_path / "arch.yaml"
        path.write_text(yaml.safe_dump(dotted(raw, changes or {}), sort_keys=False))
        return path

    return write


def test_a_weight_stationary_array(arch):
    found = from_zigzag(arch(TPU))
    machine = found.machine
    assert (machine.name, machine.array.rows, machine.array.cols, machine.array.dataflow) == ("tpu_like", 32, 32, "ws")
    assert machine.array.count == 1 and machine.dram.bandwidth_gb_per_s == 8
    levels = {n: (level.keeps, level.capacity_kib, level.bandwidth_gb_per_s) for n, level in machine.memory.items()}
    assert levels == {"sram_2MB": (("inputs", "outputs"), 2048, 256), "rf_128B": (("weights",), 128, 1024)}
    told = "\n".join(found.notices)
    for word in ("clock", "r_cost", "unit_energy", "latency", "rf_2B", "sums: 32 bits", "assumed: no memory tells"):
        assert word in told
    assert {"array", "dram", "vector", "clock_ghz", "memory.rf_128B", "memory.sram_2MB"} == set(machine.sources)


def test_capacities_are_those_of_the_validated_machine(arch):
    """The same machine as ``validation.zigzag`` describes by hand, replicas of registers counted together."""
    machine = from_zigzag(arch(TPU)).machine
    reference = MACHINES["tpu_like"]
    for name, level in machine.memory.items():
        replicas = 1024 if name in reference.replicated else 1
        assert level.capacity_kib * 8192 == reference.capacity_bits[name] * replicas


def test_ideal_cycles_and_dram_words_of_zigzags_own_runs(arch):
    """Ideal cycles of all 24 runs on this machine; DRAM words where even tiles reach what its uneven ones do."""
    machine, theirs = from_zigzag(arch(TPU)).machine, compare().rows
    equal, ratios, made = 0, [], {}
    rows = reference()
    rows = rows[rows.machine == "tpu_like"]
    for row in rows.itertuples():
        macs = row.M * row.K * row.N
        assert -(-macs // int(machine.array.peak_macs_per_cycle)) == row.ideal_cycle
        shape = {"m": int(row.M), "k": int(row.K), "n": int(row.N)}
        if tuple(shape.values()) not in made:
            made[tuple(shape.values())] = simulate(machine, gemm(**shape), objective="traffic").table.iloc[0]
        ops = made[tuple(shape.values())]
        word = machine.dram.bandwidth_gb_per_s  # bytes a cycle at 1 GHz
        reads, writes = (
            word * theirs.loc[row.Index, [f"zigzag_{o}" for o in operands]].sum()
            for operands in (("weights", "inputs"), ("outputs",))
        )
        assert ops.dram_write_bytes == writes
        equal += ops.dram_read_bytes == reads
        ratios.append(ops.dram_read_bytes / reads)
    assert len(rows) == 24 and equal == 12
    assert min(ratios) == 1 and max(ratios) < 1.06


def test_four_axes_become_arrays_side_by_side(arch):
    machine = from_zigzag(arch(EDGE)).machine
    array = machine.array
    assert (array.rows, array.cols, array.count, array.split, array.dataflow) == (4, 8, 10, "m", "ws")
    assert array.peak_macs_per_cycle == 8 * 4 * 2 * 5
    assert (array.activation_bits, array.weight_bits) == (4, 8)
    assert list(machine.memory) == ["sram_2MB", "sram_32KB"] and len(machine.tiers) == 1


def test_without_sums_in_space_the_array_is_output_stationary(arch):
    machine = from_zigzag(arch(EDGE, {"memories.rf_2B.served_dimensions": []})).machine
    assert (machine.array.rows, machine.array.cols, machine.array.dataflow) == (10, 32, "os")


def test_tiers_follow_the_operands_not_the_order_of_the_file(arch):
    changed = copy.deepcopy(TPU)
    near = memory(["I1"], 8192, 256, serves=["D1", "D2"])
    wide = memory(["I2"], 1048576, 256, serves=["D1", "D2"])
    old = changed["memories"]
    changed["memories"] = {
        "rf_128B": old["rf_128B"],
        "wide": wide,
        "near": near,
        "big": old["sram_2MB"],
        "dram": old["dram"],
    }
    assert from_zigzag(arch(changed)).machine.tiers == [["big", "wide"], ["near", "rf_128B"]]


def test_ports(arch):
    shared = from_zigzag(
        arch(TPU, {"memories.sram_2MB": memory(["I1", "O"], 1 << 20, 512, serves=["D1", "D2"], shared=True)})
    )
    level = shared.machine.memory["sram_2MB"]
    assert (level.ports, level.bandwidth_gb_per_s) == (1, 64)
    uneven = from_zigzag(arch(TPU, {"memories.sram_2MB.ports.1.bandwidth_max": 1024}))
    assert uneven.machine.memory["sram_2MB"].bandwidth_gb_per_s == 128
    assert "the smaller taken for both" in uneven.machine.sources["memory.sram_2MB"]


def test_a_field_given_twice_counts_as_in_zigzag(arch):
    path = arch(TPU)
    path.write_text(path.read_text().replace("name: tpu_like", "name: first\nname: second"))
    found = from_zigzag(path)
    assert found.machine.name == "second" and any("given twice" in notice for notice in found.notices)


@pytest.mark.parametrize(
    ("raw", "changes", "parts"),
    [
        (TPU, {"operational_array.is_imc": True}, ("operational_array.is_imc", "in-memory")),
        (TPU, {"operational_array.sizes": [32]}, ("operational_array", "equal length")),
        (TPU, {"memories.rf_2B.operands": ["I3"]}, ("memories.rf_2B.operands", "'I3'")),
        (TPU, {"memories.rf_2B.served_dimensions": ["D9"]}, ("memories.rf_2B.served_dimensions", "D9")),
        (TPU, {"memories.rf_2B.size": 0}, ("memories.rf_2B.size", "> 0")),
        (TPU, {"memories.dram.operands": ["I1", "I2"]}, ("memories.dram", "must keep I1, I2 and O")),
        (TPU, {"memories.rf_128B": None}, ("memories", "I2 comes from DRAM directly")),
        (TPU, {"memories.rf_2B.ports.0.type": "reed"}, ("ports.0.type", "did you mean 'read'?")),
        (TPU, {"memories.rf_2B.ports": []}, ("memories.rf_2B.ports",)),
        (TPU, {"memories": None}, ("memories", "mapping")),
        (EDGE, {"memories.rf_1B.served_dimensions": []}, ("operational_array.dimensions", "rf_2B", "dot products")),
        (EDGE, {"memories.near": memory(["I1"], 8192, 64, serves=FOUR)}, ("memories.near",)),
    ],
)  # fmt: skip
def test_refused(arch, raw, changes, parts):
    if "memories.near" in changes:  # inside the big one, so before it in the file
        raw = dotted(raw, {})
        raw["memories"] = {"near": changes["memories.near"], **raw["memories"]}
        changes = {}
    with pytest.raises(InputError) as error:
        from_zigzag(arch(raw, changes))
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


# The layer format of ZigZag's documentation (inputs/workload/resnet18.yaml, MIT); sizes of our own.
CONV = {
    "id": 0, "operator_type": "Conv", "equation": "O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]",
    "dimension_relations": ["ix=2*ox+1*fx", "iy=1*oy+2*fy"], "loop_dims": ["B", "K", "C", "OY", "OX", "FY", "FX"],
    "loop_sizes": [2, 64, 3, 10, 12, 5, 7], "operand_precision": {"W": 4, "I": 8, "O": 16, "O_final": 8},
}  # fmt: skip
FC = {
    "id": 1, "name": "fc", "operator_type": "Gemm", "equation": "O[b][k]+=I[b][c]*W[c][k]",
    "loop_dims": ["B", "C", "K"], "loop_sizes": [4, 512, 1000],
    "operand_precision": {"W": 8, "I": 8, "O": 24, "O_final": 16},
}  # fmt: skip
HEADS = {**FC, "name": "heads", "equation": "O[h][b][k]+=I[h][b][c]*W[h][c][k]", "loop_dims": list("HBCK"),
         "loop_sizes": [6, 4, 32, 8]}  # fmt: skip
DEPTHWISE = {**CONV, "name": "dw", "equation": "O[b][g][oy][ox]+=W[g][fy][fx]*I[b][g][iy][ix]",
             "loop_dims": ["B", "G", "OY", "OX", "FY", "FX"], "loop_sizes": [1, 6, 8, 9, 3, 3]}  # fmt: skip
POOL = {**CONV, "name": "pool", "operator_type": "Pooling", "equation": "O[b][g][oy][ox]+=W[fx][fy]*I[b][g][iy][ix]",
        "dimension_relations": ["ix=2*ox+1*fx", "iy=2*oy+1*fy"], "loop_dims": ["B", "G", "OY", "OX", "FX", "FY"],
        "loop_sizes": [1, 4, 5, 5, 3, 3]}  # fmt: skip
ADD = {**CONV, "name": "add", "operator_type": "Add", "equation": "O[b][g][oy][ox]=W[b][g][oy][ox]+I[b][g][oy][ox]",
       "loop_dims": ["B", "G", "OY", "OX"], "loop_sizes": [1, 4, 5, 5]}  # fmt: skip


@pytest.fixture
def workload(tmp_path, arch):
    def write(*layers):
        path = tmp_path / "layers.yaml"
        path.write_text(json.dumps(layers))
        return from_zigzag(arch(TPU), path)

    return write


def test_layers_become_ops(workload):
    found = workload(CONV, FC, HEADS, DEPTHWISE, POOL, ADD)
    ops = found.trace.ops[found.trace.ops["name"] != "fence"].set_index("name")
    assert not violations(found.trace)
    assert (ops.loc["Conv_0", ["m", "n", "k"]] == [2 * 10 * 12, 64, 3 * 5 * 7]).all()
    height, width = 9 * 1 + 4 * 2 + 1, 11 * 2 + 6 * 1 + 1
    assert ops.loc["Conv_0", "live_in_bytes"] >= 2 * 3 * 18 * 29 == 2 * 3 * height * width
    assert (
        ops.loc["Conv_0", ["weight_bits", "activation_bits", "output_bits", "accumulator_bits"]] == [4, 8, 8, 16]
    ).all()
    assert (
        ops.loc["fc", ["batch", "m", "n", "k", "output_bits", "accumulator_bits"]] == [1, 4, 1000, 512, 16, 24]
    ).all()
    assert (ops.loc["heads", ["batch", "m", "n", "k"]] == [6, 4, 8, 32]).all()
    assert (ops.loc["dw", ["batch", "m", "n", "k"]] == [6, 72, 1, 9]).all()
    assert ops.loc["pool", "alu_ops"] == 100 * 9 and ops.loc["pool", "read_bytes"] == 4 * 11 * 11
    assert ops.loc["add", "write_bytes"] == 100 and ops.loc["add", "alu_ops"] == 100
    assert found.machine.array.accumulator_bits == 24  # the widest that the workload asks for
    assert simulate(found.machine, found.trace).cycles > 0


@pytest.mark.parametrize(
    ("layer", "parts"),
    [
        ({**FC, "operator_type": "Gem"}, ("layer 0", "operator_type", "did you mean 'Gemm'?")),
        ({**FC, "equation": "O=I*W"}, ("equation", "O[b][k]")),
        ({**FC, "equation": "O[b][k]+=I[b][c]*W[c][z]"}, ("'z'", "loop_dims")),
        ({**FC, "loop_sizes": [4, 512]}, ("equal length",)),
        ({**FC, "loop_sizes": [4, 512, -1]}, ("loop_sizes", "K", "-1")),
        ({**FC, "operand_precision": {"I": 8}}, ("operand_precision.W",)),
        ({**FC, "operand_precision": {"I": 8, "W": 32, "O": 32, "O_final": 8}}, ("operand_precision.W", "1..16")),
        ({**CONV, "dimension_relations": ["ix=ox"]}, ("dimension_relations", "'ix=ox'")),
        ([1], ("layer 0", "mapping")),
        ({**FC, "loop_dims": ["B", "C", "K", "z"], "loop_sizes": [4, 8, 8, 3]}, ("z is in no operand", "(3)")),
        ({**FC, "loop_dims": ["B", "C", "K", "c"], "loop_sizes": [4, 8, 8, 3]}, ("loop_dims", "C is there twice")),
        ({**CONV, "equation": CONV["equation"].replace("I[b]", "I[b][g]"), "loop_dims": [*CONV["loop_dims"], "G"],
          "loop_sizes": [*CONV["loop_sizes"], 9]}, ("g is in one operand only",)),
        ({**CONV, "dimension_relations": ["ix=2*ox+1*fx", "iy=1*ox+1*fy"], "loop_sizes": [2, 64, 3, 1, 12, 5, 7]},
         ("ox is an index of I in two ways",)),
        ({**CONV, "equation": CONV["equation"].replace("iy", "oy")}, ("fy is in one operand only",)),
        ({**CONV, "equation": CONV["equation"].replace("O[b]", "O[b][iy]")}, ("'iy'", "loop_dims has no IY")),
        ({**CONV, "loop_dims": [*CONV["loop_dims"], "IX"], "loop_sizes": [*CONV["loop_sizes"], 9]}, ("ix is a loop",)),
        ({**CONV, "equation": CONV["equation"].replace("W[k]", "W[k][ox]")}, ("ox is in W",)),
        ({**CONV, "equation": CONV["equation"].replace("O[b]", "O[b][fx]")}, ("fx is in O",)),
        ({**POOL, "equation": POOL["equation"].replace("O[b][g]", "O[b]")}, ("g is in I only",)),
        ({**ADD, "equation": ADD["equation"].replace("O[b][g]", "O[b]")}, ("g is in IW",)),
    ],
)  # fmt: skip
def test_layers_that_are_refused(workload, layer, parts):
    with pytest.raises(InputError) as error:
        workload(layer)
    for part in parts:
        assert part in str(error.value)


def test_loops_of_one_may_idle(workload):
    """ZigZag's own layers name loops that they do not use, of size 1."""
    idle = {"loop_dims": [*CONV["loop_dims"], "G"], "loop_sizes": [*CONV["loop_sizes"], 1]}
    batch = {**FC, "equation": "O[k]+=I[b][c]*W[c][k]", "loop_sizes": [1, 512, 1000]}
    found, plain = (workload(*layers).trace.ops for layers in (({**CONV, **idle}, batch), (CONV, FC)))
    assert (found.loc[0, ["batch", "m", "n", "k"]] == plain.loc[0, ["batch", "m", "n", "k"]]).all()
    fc = found[found["name"] == "fc"].iloc[0]
    assert (fc["m"], fc["n"], fc["k"]) == (1, 1000, 512)


def test_a_name_with_line_breaks_stays_inside_the_comments(arch, tmp_path):
    from accel_models import accelerator

    found = from_zigzag(arch(TPU))
    found.draft.notices.append("field 'a\nclock_ghz: 3\x07\u2028b' is left out")
    path = found.draft.save(tmp_path / "saved.yaml")
    assert accelerator(path) == found.machine
    assert "# field 'a clock_ghz: 3 b' is left out" in path.read_text().splitlines()
