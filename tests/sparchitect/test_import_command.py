"""``import`` as a user calls it: files written, notices shown, refusals in one line, and the files run."""

from __future__ import annotations

import json

import pytest

import sparchitect as sp
from sparchitect.peers import from_scalesim, from_zigzag

# SCALE-Sim 3.0.0's format (MIT), without what may be left out
CONFIG = """\
[general]
run_name = small
[architecture_presets]
ArrayHeight: 32
ArrayWidth: 32
IfmapSramSzkB: 64
FilterSramSzkB: 64
OfmapSramSzkB: 64
IfmapOffset: 0
Dataflow: ws
[sparsity]
SparsitySupport: false
[run_presets]
InterfaceBandwidth: CALC
"""
TOPOLOGY = """\
Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides, Sparsity,
Conv1,34,34,7,7,3,64,2,2:4,
Conv2_1a,16,16,3,3,64,64,1,2:4,
ConvDP,16,16,3,3,3,1,1,1:1,
"""
# ZigZag 3's format (MIT)
ARCH = """\
name: tiny
operational_array: {dimensions: [D1, D2], sizes: [8, 8]}
memories:
  sram:
    {size: 524288, latency: 1, operands: [I1, I2, O], served_dimensions: [D1, D2],
     ports: [{name: rw_port_1, type: read_write, bandwidth_min: 64, bandwidth_max: 512, allocation: []}]}
  dram:
    {size: 10000000000, latency: 1, operands: [I1, I2, O], served_dimensions: [D1, D2],
     ports: [{name: rw_port_1, type: read_write, bandwidth_min: 64, bandwidth_max: 64, allocation: []}]}
"""
LAYERS = """\
- {id: 0, operator_type: Gemm, equation: "O[b][k]+=I[b][c]*W[c][k]", loop_dims: [B, C, K], loop_sizes: [4, 64, 32],
   operand_precision: {I: 8, W: 8, O: 16, O_final: 8}}
"""


@pytest.fixture(autouse=True)
def files(tmp_path, own_place):
    for name, text in (("s.cfg", CONFIG), ("t.csv", TOPOLOGY), ("a.yaml", ARCH), ("w.yaml", LAYERS)):
        (tmp_path / name).write_text(text)
    (tmp_path / "sparse.cfg").write_text(CONFIG.replace("Support: false", "Support: true"))


@pytest.mark.parametrize(
    ("config", "cycles"),
    [
        ("s.cfg", {"Conv1": 3189, "Conv2_1a": 10439, "ConvDP": 3 * 289}),
        ("sparse.cfg", {"Conv1": 1913, "Conv2_1a": 5219, "ConvDP": 3 * 289}),
    ],
)
def test_scalesim_counts_what_scalesim_counts(one_object, config, cycles):
    """Cycles that SCALE-Sim 3.0.0 printed for these files, without and with its sparsity support."""
    found = one_object("import", "scalesim", config, "t.csv")
    assert found["scalesim_compute_cycles"] == cycles
    assert found["machine"] == f"imported/{config[:-4]}.yaml" and found["trace"] == "imported/t.parquet"
    assert any("IfmapOffset" in notice for notice in found["notices"])


def test_what_is_written_runs(cli):
    for words in (("scalesim", "s.cfg", "t.csv"), ("zigzag", "a.yaml", "--workload", "w.yaml")):
        done = cli("import", *words, "--out", "made here")
        assert done.code == 0 and not done.err and "clock: not stated" in done.out
        following = done.out.splitlines()[-1].partition("sparchitect ")[2].replace("'", "").split(" -a ")[1]
        machine, trace = following.split(" --trace ")
        assert cli("simulate", "-a", machine, "--trace", trace).code == 0
        assert cli("trace", "validate", trace).code == 0


def test_a_machine_alone(cli, one_object):
    assert one_object("import", "zigzag", "a.yaml", "--clock-ghz", "0.5")["trace"] is None
    machine = sp.accelerator("imported/tiny.yaml")
    assert (machine.clock_ghz, machine.dram.bandwidth_gb_per_s, machine.memory["sram"].capacity_kib) == (0.5, 4, 64)
    done = cli("import", "scalesim", "s.cfg")
    assert done.code == 0 and "--gemm" in done.out.splitlines()[-1]


def test_python_names():
    assert from_scalesim("s.cfg", "t.csv").trace.name == "t"
    assert from_zigzag("a.yaml").trace is None


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("scalesim", "nothing.cfg"), ("nothing.cfg", "no such file")),
        (("scalesim", "s.cfg", "nothing.csv"), ("nothing.csv", "no such file")),
        (("scalesim", "t.csv"), ("t.csv", "not a SCALE-Sim configuration")),
        (("scalesim", "s.cfg", "--clock-ghz", "0"), ("clock_ghz", "got 0")),
        (("scalesim", "s.cfg", "--out", "t.csv"), ("t.csv", "cannot be written")),
        (("zigzag", "w.yaml"), ("w.yaml", "mapping of fields")),
        (("zigzag", "a.yaml", "--workload", "a.yaml"), ("a.yaml", "list of layers")),
        (("zigzag",), ("ARCH.yaml",)),
        (("scalsim", "s.cfg"), ("Did you mean 'scalesim'",)),
    ],
)
def test_refusals(refused, words, parts):
    message = refused("import", *words)
    for part in parts:
        assert part.lower() in message.lower()


def test_json_is_the_machine_that_was_written(one_object):
    found = one_object("import", "scalesim", "s.cfg")
    assert found["fields"] == json.loads(sp.accelerator(found["machine"]).model_dump_json())
