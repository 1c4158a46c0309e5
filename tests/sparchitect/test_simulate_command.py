"""What ``simulate`` and ``sweep`` take beside a machine and its work: objectives, mappings, nests, traces, resuming."""

from __future__ import annotations

import json
import textwrap

import pandas as pd
import pytest

import dse.sweep
import sparchitect as sp

GEMM = ("--gemm", "128x96x256")
FIXED = """\
mappings:
  "gemm_*":
    tiers:
      - {m: 64, n: 96, k: 256, order: mnk}
"""


def test_objective(one_object):
    words = ("simulate", "-a", "dense_ws", "--gemm", "512x2048x2048", "--set", "memory.shared.capacity_kib=64")
    words += ("--set", "dram.bandwidth_gb_per_s=100")
    found = {o: one_object(*words, "--objective", o) for o in ("latency", "traffic")}
    assert found["latency"]["cycles"] < found["traffic"]["cycles"]
    assert found["latency"]["dram_bytes"] > found["traffic"]["dram_bytes"]
    assert found["traffic"]["objective"] == "traffic"


def test_fixed_mapping(cli, one_object, tmp_path):
    (tmp_path / "mine.yaml").write_text(FIXED)
    tiers = len(sp.accelerator("dense_ws").tiers)
    inner = "".join("      - {m: 64, n: 96, k: 256}\n" for _ in range(tiers - 1))
    (tmp_path / "mine.yaml").write_text(FIXED + inner)
    found = one_object("simulate", "-a", "dense_ws", *GEMM, "--mapping", "mine.yaml")
    fixed = {"tiers": [{"m": 64, "n": 96, "k": 256}] * tiers}
    report = sp.simulate(sp.accelerator("dense_ws"), sp.gemm(m=128, n=96, k=256), mapping=fixed)
    assert found["cycles"] == report.cycles and found["ops"][0]["mapping"].startswith("for m in 0:128:64")


def test_nest(cli, one_object):
    report = sp.simulate(sp.accelerator("dense_ws"), sp.gemm(m=128, n=96, k=256))
    done = cli("simulate", "-a", "dense_ws", *GEMM, "--nest")
    assert done.code == 0 and done.out == f"{report!r}\n\n{report.mapping}\n"
    assert one_object("simulate", "-a", "dense_ws", *GEMM, "--nest")["nest"] == report.mapping


def test_perfetto(one_object, tmp_path):
    found = one_object("simulate", "-a", "dense_ws", *GEMM, "--engine", "timeline", "--perfetto", "new/tiles.json")
    drawn = json.loads((tmp_path / "new" / "tiles.json").read_text())
    assert drawn["otherData"]["cycles"] == found["cycles"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--objective", "speed"), ("objective", "latency, energy, edp, traffic", "'speed'")),
        (("--objective", "enrgy"), ("did you mean 'energy'?",)),
        (("--mapping", "nothing.yaml"), ("nothing.yaml", "no such mapping file")),
        (("--mapping", "."), (".", "cannot be read")),
        (("--mapping", "broken.yaml"), ("broken.yaml line", "YAML")),
        (("--mapping", "tag.yaml"), ("tag.yaml line 1", "os.system")),
        (("--mapping", "twice.yaml"), ("twice.yaml line 3", "twice")),
        (("--mapping", "typo.yaml"), ("typo.yaml", "tiers.0.ordre", "did you mean 'order'?")),
        (("--mapping", "other.yaml"), ("other.yaml", "'q_proj' names no op")),
        (("--mapping", "list.yaml"), ("list.yaml", "fields")),
        (("--perfetto", "tiles.json"), ("--engine timeline",)),
        (("--engine", "timeline", "--perfetto", "tiles.txt"), ("tiles.txt", ".json.gz")),
        (("--engine", "timeline", "--perfetto", "file/tiles.json"), ("file/tiles.json", "cannot be written")),
    ],
)
def test_refused(refused, tmp_path, words, parts):
    tiers = "tiers: [{m: 8, n: 8, k: 8}, {m: 8, n: 8, k: 8}]"
    for name, text in {
        "file": "not a folder",
        "broken.yaml": "tiers: [",
        "tag.yaml": '!!python/object/apply:os.system ["touch pwned"]',
        "twice.yaml": f"{tiers}\nbuffers: 1\nbuffers: 2\n",
        "typo.yaml": "tiers: [{m: 8, n: 8, k: 8, ordre: mnk}]",
        "other.yaml": f"mappings: {{q_proj: {{{tiers}}}}}",
        "list.yaml": "[1, 2]",
    }.items():
        (tmp_path / name).write_text(textwrap.dedent(text))
    message = refused("simulate", "-a", "dense_ws", *GEMM, *words)
    for part in parts:
        assert part in message


SWEEP = ("sweep", "-a", "dense_ws", *GEMM, "--vary", "array.rows=8,16,32,64", "--vary", "clock_ghz=0.4,0.8")


def test_sweep_objective(one_object):
    table = sp.sweep(sp.accelerator("dense_ws"), sp.gemm(m=128, n=96, k=256), {"array.rows": [8, 16]}, "energy")
    found = one_object("sweep", "-a", "dense_ws", *GEMM, "--vary", "array.rows=8,16", "--objective", "energy")
    assert [d["energy_pj"] for d in found["designs"]] == pytest.approx(list(table["energy_pj"]))


def test_ctrl_c_keeps_pieces_and_resume_goes_on(cli, one_object, tmp_path, monkeypatch):
    monkeypatch.setattr(dse.sweep, "PIECE", 3)
    real, calls = dse.sweep.evaluate, []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(dse.sweep, "evaluate", interrupted)
    done = cli(*SWEEP, "--out", "x.parquet")
    assert done.code == 130 and done.out == ""
    assert done.err == "interrupted: finished pieces are kept, go on with --resume --out x.parquet\n"
    found = one_object(*SWEEP, "--out", "x.parquet", "--resume")
    assert len(calls) == 2 + 2 and found["designs_in_file"] == len(found["designs"]) == 8
    assert len(pd.read_parquet(tmp_path / "x.parquet")) == 8


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--objective", "speed"), ("objective", "'speed'")),
        (("--resume",), ("--resume needs --out",)),
        (("--resume", "--out", "x.csv"), ("--resume needs --out", ".parquet")),
        (("--resume", "--out", "x.parquet"), ("x.parquet", "no sweep to resume")),
        (("--out", "there.parquet"), ("there.parquet", "already there")),
        (("--resume", "--out", "there.parquet"), ("there.parquet", "no sweep of ours")),
        (("--out", "file/x.parquet"), ("file/x.parquet", "cannot be written")),
    ],
)
def test_sweep_refused(refused, tmp_path, words, parts):
    (tmp_path / "file").write_text("not a folder")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "there.parquet")
    message = refused(*SWEEP, *words)
    for part in parts:
        assert part in message


def test_chips_and_operations_from_the_face():
    chips = sp.Chips(
        count=2, topology="ring", link_gb_per_s=50, link_latency_ns=500, links_per_chip=2, energy_pj_per_bit=1.0
    )
    trace = sp.sequence(sp.gemm(m=64, k=256, n=256), sp.elementwise("silu", 64 * 256), sp.gemm(m=64, k=256, n=256))
    machine = sp.accelerator("dense_ws").override({"memory.shared.capacity_kib": 16, "dram.bandwidth_gb_per_s": 100})
    time, traffic = (sp.simulate_chips(machine, trace, chips, tensor=2, objective=o) for o in ("latency", "traffic"))
    moved = [sum(r.dram_bytes for r in x.stages[0].reports) for x in (time, traffic)]
    assert time.seconds <= traffic.seconds and moved[1] <= moved[0]
    assert {r.objective for r in traffic.stages[0].reports} == {"traffic"}
