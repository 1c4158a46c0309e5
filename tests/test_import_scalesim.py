"""SCALE-Sim's files as machines and traces: the same numbers, the same layers, and nothing dropped without a word."""

from importlib import resources

import pandas as pd
import pytest

from sim.errors import InputError
from sim.simulate import simulate
from sim.trace_tools.validate import violations
from sparchitect.peers import from_scalesim, scalesim_cycles

# The fields and sections of SCALE-Sim 3.0.0's example configuration (configs/scale.cfg, MIT), values of our own.
CONFIG = """\
[general]
run_name = example

[architecture_presets]
ArrayHeight:    16
ArrayWidth:     8
IfmapSramSzkB:   64
FilterSramSzkB:  32
OfmapSramSzkB:   128
IfmapOffset:    0
FilterOffset:   10000000
OfmapOffset:    20000000
Bandwidth : 10
Dataflow : ws
MemoryBanks:   1
ReadRequestBuffer: 32

[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 100
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 50
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2

[sparsity]
SparsitySupport : false
SparseRep : ellpack_block
OptimizedMapping : false

[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""
CONV = """\
Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
Conv1,224,224,7,7,3,64,2,
Conv2, 56, 56, 3, 3, 64, 64, 1,
SepDP, 14, 14, 3, 3, 8, 1, 1,
"""
GEMM = "Layer,M,N,K,\none,7,13,5,\ntwo,31,33,17,\n"


@pytest.fixture
def files(tmp_path):
    """``files(config={"Dataflow": "os"}, topology=GEMM)``: the example with fields changed, and a topology."""

    def write(config=None, topology=GEMM, without=()):
        lines = CONFIG.splitlines()
        for key, value in (config or {}).items():
            at = [i for i, line in enumerate(lines) if line.split(":")[0].strip() == key]
            if at:
                lines[at[0]] = f"{key}: {value}"
            else:
                lines.append(f"{key}: {value}")
        lines = [line for line in lines if line.split(":")[0].strip() not in without]
        (tmp_path / "mine.cfg").write_text("\n".join(lines) + "\n")
        (tmp_path / "topo.csv").write_text(topology)
        return tmp_path / "mine.cfg", tmp_path / "topo.csv"

    return write


def test_what_is_stated_is_carried_and_what_is_not_is_told(files):
    found = from_scalesim(*files())
    machine = found.machine
    assert (machine.array.rows, machine.array.cols, machine.array.dataflow, machine.array.overlap) == (
        16,
        8,
        "ws",
        "none",
    )
    assert {n: (level.keeps, level.capacity_kib) for n, level in machine.memory.items()} == {
        "ifmap": (("inputs",), 64),
        "filter": (("weights",), 32),
        "ofmap": (("outputs",), 128),
    }
    assert len(machine.tiers) == 1 and all(level.double_buffered for level in machine.memory.values())
    assert set(machine.sources) == {"clock_ghz", "array", "dram", "vector", *(f"memory.{n}" for n in machine.memory)}
    for word in ("clock", "widths", "energy and area", "vector unit", "DRAM"):
        assert sum(notice.startswith(word) for notice in found.notices) == 1
    told = " ".join(found.notices)
    for key in ("IfmapOffset", "Bandwidth", "MemoryBanks", "ReadRequestBuffer", "FilterSRAMBankPort", "SparseRep"):
        assert key in told


def test_every_field_is_carried_or_told(files):
    """Change any field of the file: the machine differs, or a notice names it, or it is refused."""
    before = from_scalesim(*files()).machine
    for key in [line.split(":")[0].strip() for line in CONFIG.splitlines() if ":" in line]:
        value = {"Dataflow": "os", "InterfaceBandwidth": "USER", "SparseRep": "csr"}.get(key, "4")
        value = "true" if key.endswith(("Layout", "Support", "Mapping", "Trace")) else value
        config, topology = files({key: value})
        found = from_scalesim(config, topology)
        named = any(key in notice for notice in found.notices)
        assert found.machine.config_hash() != before.config_hash() or named, key
    assert any("not known: Wormholes" in notice for notice in from_scalesim(*files({"Wormholes": 3})).notices)


def test_the_machine_file_is_read_back_the_same(files, tmp_path):
    from accel_models import accelerator

    found = from_scalesim(*files())
    machine, trace = found.save(tmp_path / "out")
    assert accelerator(machine) == found.machine
    assert machine.name == "mine.yaml" and trace.name == "topo.parquet"
    assert "clock: not stated" in machine.read_text().splitlines()[0]


def test_compute_cycles_of_every_reference_row(files):
    """Cross-check: configuration and topology files of SCALE-Sim 3.0.0's own runs give its cycles, row by row."""
    with (resources.files("validation") / "data/peers/scalesim_3_0_0_calc.csv").open() as file:
        rows = pd.read_csv(file)
    seen = 0
    for (flow, height, width), part in rows.groupby(["dataflow", "rows", "cols"]):
        lines = [f"g{i},{r.M},{r.N},{r.K}," for i, r in part.iterrows()]
        config, topology = files(
            {"ArrayHeight": height, "ArrayWidth": width, "Dataflow": flow}, "Layer,M,N,K,\n" + "\n".join(lines) + "\n"
        )
        found = from_scalesim(config, topology)
        cycles = scalesim_cycles(found.machine, found.trace)
        assert cycles == {f"g{i}": r.total_cycles for i, r in part.iterrows()}
        seen += len(part)
    assert seen == len(rows) == 120


def test_convolutions_round_up_as_scalesim_does(files):
    found = from_scalesim(*files(topology=CONV))
    ops = found.trace.ops[found.trace.ops["kind"] == "gemm"].set_index("name")
    assert (ops.loc["Conv1", ["m", "n", "k"]] == [110 * 110, 64, 147]).all()  # ceil((224 - 7) / 2) + 1
    assert (ops.loc["Conv2", ["m", "n", "k"]] == [54 * 54, 64, 576]).all()
    assert (ops.loc["SepDP", ["batch", "m", "n", "k"]] == [8, 12 * 12, 1, 9]).all()
    assert not violations(found.trace)
    assert any("Conv1" in n and "225 x 225 instead of 224 x 224" in n for n in found.notices)
    assert ops.loc["Conv2", "input_elements"] == 56 * 56 * 64


def test_bandwidth_of_the_user(files):
    one = from_scalesim(*files({"InterfaceBandwidth": "USER"})).machine.dram
    assert one.bandwidth_gb_per_s == 100 + 50 + 10  # version 3 reads through the layout section
    layout = [f"{operand}SRAMBankBandwidth" for operand in ("Ifmap", "Filter")]
    config, topology = files({"InterfaceBandwidth": "USER"}, without=layout)
    assert from_scalesim(config, topology, clock_ghz=0.5).machine.dram.bandwidth_gb_per_s == 3 * 10 * 0.5
    config, topology = files({"InterfaceBandwidth": "USER", "Bandwidth": "10, 20, 5"}, without=layout)
    assert from_scalesim(config, topology).machine.dram.bandwidth_gb_per_s == 35


def test_calc_asks_for_no_stalls(files):
    found = from_scalesim(*files(topology="Layer,M,N,K,\nbig,256,64,256,\n"))
    report = simulate(found.machine, found.trace)
    assert report.stalls["dram_bandwidth"] < 0.05 * report.cycles


def test_sparsity_ratios(files):
    support = {"SparsitySupport": "true"}
    sparse = "Layer,M,N,K,Sparsity,\na,8,16,64,2:4,\nb,8,16,64,4:4,\n"
    found = from_scalesim(*files(support, sparse))
    assert found.machine.sparsity.n_of_m == "2:4"
    ops = found.trace.ops.set_index("name")
    assert ops.loc["a", "group4_max"] == 2 and ops.loc["b", "nonzeros"] == 16 * 64
    dense = from_scalesim(*files(topology=sparse))
    assert dense.machine.sparsity.n_of_m is None and dense.trace.profiles is None
    assert any("SparsitySupport is off" in notice for notice in dense.notices)
    cycles = scalesim_cycles(found.machine, found.trace)
    assert cycles["a"] == 2 * 2 * (8 + 2 * 16 + 8 - 2) - 1 and cycles["b"] == 4 * 2 * (8 + 2 * 16 + 8 - 2) - 1
    mixed = from_scalesim(*files(support, sparse.replace("4:4", "1:4")))
    assert scalesim_cycles(mixed.machine, mixed.trace)["b"] == 1 * 2 * (8 + 2 * 16 + 8 - 2) - 1  # its own ratio
    halves = from_scalesim(*files(support, sparse.replace("2:4", "1:2")))
    assert halves.machine.sparsity.n_of_m == "1:2" and scalesim_cycles(halves.machine, halves.trace) == cycles
    assert mixed.machine.sparsity.n_of_m == "2:4" and any("1:4" in n and "gain no more" in n for n in mixed.notices)


@pytest.mark.parametrize(
    ("config", "topology", "parts"),
    [
        ({"ArrayHeight": "0"}, GEMM, ("mine.cfg", "ArrayHeight", "> 0", "'0'")),
        ({"ArrayHeight": "5000"}, GEMM, ("mine.cfg", "array.rows", "4096")),
        ({"Dataflow": "rs"}, GEMM, ("Dataflow", "os, ws, is", "'rs'")),
        ({"InterfaceBandwidth": "MAX"}, GEMM, ("InterfaceBandwidth", "CALC, USER")),
        ({"InterfaceBandwidth": "USER", "Bandwidth": "1,2"}, GEMM, ("Bandwidth", "one number or three")),
        ({"SparsitySupport": "maybe"}, GEMM, ("SparsitySupport", "true or false")),
        ({"SparsitySupport": "true", "OptimizedMapping": "true"}, GEMM.replace("5,", "5,2:4,"), ("OptimizedMapping",)),
        ({"SparsitySupport": "true", "Dataflow": "os"}, GEMM.replace("5,", "5,2:4,"), ("only ws",)),
        ({"SparsitySupport": "true"}, GEMM.replace("5,", "5,2:4,").replace("17,", "17,1:8,"), ("2:4", "split")),
        ({}, "Layer,M,N,K,\n", ("topo.csv", "no layer")),
        ({}, "Layer,M,N,K,\na,1,2,\n", ("topo.csv line 2", "M, N, K")),
        ({}, "Layer,M,N,K,\na,1,x,3,\n", ("line 2", "N", "'x'")),
        ({}, "Layer,M,N,K,\na,1,2,3,2-4,\n", ("ratio", "n:m", "'2-4'")),
        ({}, "Layer,M,N,K,\na,1,2,3,5:4,\n", ("1 <= n <= m",)),
        ({}, "Layer,M,N,K,\na,1,2,3,\na,1,2,3,\n", ("line 3", "'a' is there twice")),
        ({}, CONV.replace("3, 3, 64, 64", "99, 3, 64, 64"), ("line 3", "filter height 99", "56")),
        ({}, GEMM.replace("17", "9" * 24), ("line 3", "K", "at most 2147483647", "9" * 24)),
        ({}, GEMM.replace("17", "9" * 5000), ("line 3", "K", "at most 2147483647")),
        ({}, GEMM.replace("17", "2147483648"), ("line 3", "K", "at most 2147483647")),
        ({}, CONV.replace("3, 3, 64, 64", "56, 56, 999999, 64"), ("line 3", "each must be at most 2147483647")),
        ({"SparsitySupport": "true"}, GEMM.replace("33,17", "32768,16385,2:4"), ("line 3", "too large to draw", "2:4")),
        ({"SparsitySupport": "true"}, GEMM.replace("5,", "5," + "9" * 5000 + ":4,"), ("ratio",)),
    ],
)  # fmt: skip
def test_refused(files, config, topology, parts):
    with pytest.raises(InputError) as error:
        from_scalesim(*files(config, topology))
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def test_a_missing_field_names_the_nearest(files):
    config, topology = files({"ArrayHight": "3"}, without=("ArrayHeight",))
    with pytest.raises(InputError, match="field 'ArrayHeight' is missing, did you mean 'ArrayHight'"):
        from_scalesim(config, topology)


def test_files_that_are_none(tmp_path, files):
    config, _ = files()
    with pytest.raises(InputError, match=r"nothing\.csv: no such file"):
        from_scalesim(config, tmp_path / "nothing.csv")
    (tmp_path / "bad.cfg").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        from_scalesim(tmp_path / "bad.cfg")
    (tmp_path / "bad.cfg").write_text("no section\n")
    with pytest.raises(InputError, match="not a SCALE-Sim configuration"):
        from_scalesim(tmp_path / "bad.cfg")


def test_a_header_in_another_order_is_told(files):
    found = from_scalesim(*files(topology="Layer,M,K,N,\na,2,3,4,\n"))
    assert (found.trace.ops.loc[0, ["m", "n", "k"]] == [2, 3, 4]).all()
    assert any("read as M, N, K" in notice for notice in found.notices)
