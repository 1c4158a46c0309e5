"""Machine files: what is bundled is complete and comparable; what is wrong is refused in one line."""

from __future__ import annotations

import pytest
import yaml

from accel_models import accelerator, names, summaries
from accel_models.loader import DATA
from sim.designs import Designs
from sim.errors import InputError, nearest
from sim.simulate import feasible, simulate
from sim.trace import gemm
from workloads.llm import llm

EDGE = ("dense_ws", "nm_24", "sparse_lanes")  # equal in everything but sparsity support and what feeds it
OTHERS = ("dual_sided", "gemmini_like", "multi_array", "tpu_like")
PROSE = ("name", "summary", "sources")


def leaves(node, path=""):
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path


def raw(name):
    return yaml.safe_load((DATA / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", names())
def test_every_constant_has_a_source(name):
    machine = raw(name)
    fields = list(leaves({k: v for k, v in machine.items() if k not in PROSE}))
    covered = {f: [s for s in machine["sources"] if f == s or f.startswith(f"{s}.")] for f in fields}
    assert [f for f, keys in covered.items() if not keys] == []
    used = {key for keys in covered.values() for key in keys}
    assert sorted(set(machine["sources"]) - used) == []
    assert all(len(text) > 10 for text in machine["sources"].values())


@pytest.mark.parametrize("name", names())
def test_a_file_is_one_page_and_named_after_its_machine(name):
    assert accelerator(name).name == name
    assert len((DATA / f"{name}.yaml").read_text(encoding="utf-8").splitlines()) <= 40


def test_summaries():
    assert list(summaries()) == names() == [*sorted({*EDGE, *OTHERS})]
    assert all(summaries().values())


def test_edge_machines_compare():
    machines = [accelerator(name) for name in EDGE]
    for same in (
        lambda m: m.peak_tops,
        lambda m: m.clock_ghz,
        lambda m: m.technology,
        lambda m: m.memory["shared"],
        lambda m: m.dram,
        lambda m: m.vector,
        lambda m: sum(level.capacity_kib for level in m.memory.values()),
    ):
        assert len({str(same(m)) for m in machines}) == 1


def test_buffers_feed_their_arrays():
    dense, nm = accelerator("dense_ws"), accelerator("nm_24")
    bytes_a_cycle = {role: level.bandwidth_gb_per_s / dense.clock_ghz for role, level in dense.memory.items()}
    assert bytes_a_cycle["accumulator"] >= 2 * 4 * dense.array.cols
    assert bytes_a_cycle["input_buffer"] >= 2 * dense.array.rows
    assert bytes_a_cycle["weight_buffer"] >= 2 * dense.array.cols
    assert nm.memory["input_buffer"].bandwidth_gb_per_s / nm.clock_ghz >= 2 * 2 * nm.array.rows
    assert nm.memory["weight_buffer"].bandwidth_gb_per_s / nm.clock_ghz >= 2 * 1.25 * nm.array.cols


@pytest.mark.parametrize(
    ("name", "tiers"),
    [
        ("tpu_like", [["unified", "weight_fifo"], ["accumulators"]]),
        ("gemmini_like", [["scratchpad", "accumulator"]]),
        ("multi_array", [["l2"], ["weight_buffer", "input_buffer", "accumulator"]]),
    ],
)
def test_hierarchies_are_what_their_files_say(name, tiers):
    assert accelerator(name).tiers == tiers


@pytest.mark.parametrize("name", [name for name in OTHERS if accelerator(name).array.kind == "systolic"])
def test_buffers_of_weight_stationary_machines_feed_their_arrays(name):
    """A row of inputs, a row of weights and a row of sums there and back, every cycle, from the innermost level."""
    machine = accelerator(name)
    needed = {"inputs": machine.array.rows, "weights": machine.array.cols, "outputs": 2 * 4 * machine.array.cols}
    innermost = {operand: level for level in machine.memory.values() for operand in level.keeps}
    for level in machine.memory.values():
        asked = sum(needed[operand] for operand in needed if innermost[operand] is level)
        assert level.bandwidth_gb_per_s / machine.clock_ghz >= asked, level


@pytest.mark.parametrize("phase", [{"phase": "prefill", "tokens": 64}, {"phase": "decode", "context": 256}])
@pytest.mark.parametrize("name", OTHERS)
def test_other_machines_can_be_built_and_run_a_layer(name, phase):
    """A layer of Llama 2 7B: weights come from DRAM once at least, no faster than the bus or the array."""
    machine = accelerator(name)
    designs = Designs.from_machines([machine])
    assert feasible(designs)[0].all()
    trace = llm("llama2_7b", layers=1, **phase)
    analytic, timeline = (simulate(machine, trace, engine) for engine in ("analytic", "timeline"))
    gemms = trace.ops[trace.ops["weight_source"] == "weights"]
    weights = (gemms["stored_elements"] * gemms["repeats"]).sum()
    assert analytic.dram_bytes >= weights
    assert analytic.seconds >= analytic.dram_bytes / (float(designs["dram.peak_gb_per_s"][0]) * 1e9)
    assert analytic.seconds >= 2 * trace.macs / (machine.peak_tops * 1e12)
    assert timeline.cycles == pytest.approx(analytic.cycles, rel=0.1)
    assert ("network" in analytic.energy and analytic.energy["network"] > 0) == (name == "multi_array")


def test_multicast_saves_reads_of_the_shared_level():
    """Arrays that share an operand: read once from the L2, or once each; what arrives is the same."""
    work = gemm(m=256, k=512, n=512)
    machine = accelerator("multi_array")
    split = {"array.split": "n"}  # every array needs all inputs
    together = simulate(machine.override(split), work).table.iloc[0]
    apart = simulate(machine.override(split | {"network.multicast": False}), work).table.iloc[0]
    assert together["network_bytes"] == apart["network_bytes"]
    assert apart["l2_read_bytes"] - together["l2_read_bytes"] >= 3 * 256 * 512


def test_an_op_smaller_than_the_arrays_leaves_some_idle():
    assert simulate(accelerator("multi_array"), gemm(m=2, k=2, n=1)).cycles > 0


def test_few_bytes_in_flight_bound_the_bus():
    """Little's law at half of gemmini_like's requests, one channel: 8 of 64 B over DRAM's latency."""
    machine = accelerator("gemmini_like")
    few = machine.override({"dma.channels": 1, "dma.in_flight_kib": 0.5})
    work = gemm(m=1, k=4096, n=4096)
    latency_ns = float(Designs.from_machines([machine])["dram.latency_ns"][0])
    assert simulate(few, work).seconds >= 4096 * 4096 / (512 / latency_ns) * 1e-9
    assert simulate(few, work).seconds > 1.05 * simulate(machine, work).seconds


def test_a_path_a_dict_and_a_name_give_the_same_machine(tmp_path):
    copy = tmp_path / "mine.yaml"
    copy.write_text((DATA / "dense_ws.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert accelerator(copy) == accelerator(str(copy)) == accelerator("dense_ws") == accelerator(raw("dense_ws"))


def refused(source) -> str:
    with pytest.raises(InputError) as error:
        accelerator(source)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("old", "new", "line", "wanted"),
    [
        ("rows: 32", "rows: -4", 7, "array.rows must be greater than 0, got -4"),
        ("rows: 32", "rows: many", 7, "array.rows must be a valid integer"),
        ("rows: 32", "rowz: 32", 7, "unknown field 'array.rowz', did you mean 'rows'?"),
        ("clock_ghz: 0.8", "clock_gz: 0.8", 5, "unknown field 'clock_gz', did you mean 'clock_ghz'?"),
        ("dataflow: ws", "dataflow: xs", 7, "array.dataflow must be 'os', 'ws' or 'is', got 'xs'"),
        ("lpddr4_3200", "lpddr5", 16, "dram.standard: unknown 'lpddr5', did you mean 'lpddr4_3200'? known: ddr4"),
        ("lpddr4_3200", "gddr", 16, "ddr4_3200, hbm2, hbm3, lpddr4_3200"),
        ("dram: {standard: lpddr4_3200,", "dram: {", 16, "field 'dram.standard' is missing, like 'dram: {standard: lp"),
        (", capacity_kib: 512", ", capacity_kb: 512", 11, "'memory.shared.capacity_kb', did you mean 'capacity_kib'?"),
        ("clock_ghz: 0.8", "clock_ghz: 0.8\nclock_ghz: 0.9", 6, "'clock_ghz' is given twice, first in line 5"),
        ("rows: 32", "rows: 32, rows: 64", 7, "'array.rows' is given twice, first in line 7"),
        ("clock_ghz: 0.8", "clock_ghz: !!python/object/apply:os.system ['touch pwned']", 5, "!!python/object/apply"),
        ("clock_ghz: 0.8", "clock_ghz: !!python/name:os.system", 5, "only plain values are allowed"),
        ("clock_ghz: 0.8", "clock_ghz: &c 0.8\nsummary2: *c", 6, "aliases (*c) are not allowed"),
        ("clock_ghz: 0.8", "clock_ghz: 0.8\nsparsity: {format: n_of_m, n_of_m: 2:4}", 6, 'needs quotes, "2:4"'),
        ("clock_ghz: 0.8", "clock_ghz: [0.8", None, "broken YAML"),
        ("clock_ghz: 0.8", "clock_ghz: .nan", 5, "clock_ghz must be"),
        (", capacity_kib: 512", "", 11, "field 'memory.shared.capacity_kib' is missing"),
    ],
)
def test_wrong_files_say_where_and_what(tmp_path, monkeypatch, old, new, line, wanted):
    monkeypatch.chdir(tmp_path)
    good = (DATA / "dense_ws.yaml").read_text(encoding="utf-8")
    assert old in good
    file = tmp_path / "wrong.yaml"
    file.write_text(good.replace(old, new, 1), encoding="utf-8")
    text = refused(file)
    assert text.startswith(str(file))
    assert wanted in text
    if line is not None:
        assert f"line {line}:" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wrong.yaml"]


def test_a_file_must_say_its_dram(tmp_path):
    fields = raw("dense_ws")
    del fields["dram"], fields["sources"]["dram"]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    assert "field 'dram' is missing" in refused(file) and "hbm2" in refused(file)
    said = repr(simulate(accelerator(fields), gemm(m=8, k=64, n=64)))
    assert "dram not stated: lpddr4_3200 x1 taken" in " ".join(said.split())
    assert "not stated" not in repr(simulate(accelerator("dense_ws"), gemm(m=8, k=64, n=64)))


def test_a_hint_without_names_is_no_empty_list():
    assert nearest("x", []) == "there are none here"
    assert nearest("x", ["abc"]) == "known: abc" and nearest("abd", ["abc"]) == "did you mean 'abc'?"


def test_names_and_files_that_are_not_there(tmp_path):
    assert "did you mean 'dense_ws'?" in refused("dense_wss")
    assert "no such machine file; bundled machines: dense_ws" in refused(tmp_path / "missing.yaml")
    assert "no such machine file" in refused("missing.yaml")
    assert "cannot be read" in refused(tmp_path)
    assert "got int" in refused(4)


@pytest.mark.parametrize("content", [b"", b"- 1\n- 2\n", b"\xff\xfe\x00", b"a: " + b"[" * 3000, b"just words", b"\x00"])
def test_files_that_are_no_machine(tmp_path, content):
    file = tmp_path / "odd.yaml"
    file.write_bytes(content)
    assert refused(file).startswith(str(file))


def test_a_dict_is_validated_too():
    machine = raw("dense_ws")
    machine["array"]["rows"] = 0
    assert refused(machine) == "machine 'dense_ws': array.rows must be greater than 0, got 0"
