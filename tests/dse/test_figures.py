"""Every kind of figure: its numbers are what is drawn, it reads at final size, and it looks as it did.

Pictures are compared with ``figures_baseline/KIND.png``, small and of fixed data, so that a change of the simulator's
numbers does not touch them. After a wanted change of the look, write them anew and look at them:

    python tests/dse/test_figures.py
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dse.figures.heatmap
import dse.figures.importance
import dse.figures.sensitivity
import dse.figures.sparsity
import sparchitect as sp
import validation.scatter
from dse.figures.base import PAGE_IN, Figure
from dse.figures.gantt import Gantt
from dse.figures.reports import names_of, shortened
from dse.figures.stacked import MOST, StackedBars
from dse.figures.style import COLUMN_IN, HATCHES, OKABE_ITO, bar_look, distinct_looks, plain, prefixed, styled
from dse.figures.swept import Metric, evaluated, field_label, grid_of
from dse.space import load
from dse.study import OBJECTIVES
from sim.counts import CAUSES, COLUMNS, INDEX
from sim.errors import InputError
from sim.report import Report
from sim.simulate import simulate
from sim.timeline import Events
from sim.trace import Op, Sparsity, Trace
from validation.figures import KINDS, figure
from validation.scatter import Reference
from validation.speedup import LINES

BASELINE = Path(__file__).parent / "figures_baseline"
DPI = 50
SAME, OTHER = 0.035, 0.13  # RMS of blurred grey levels, 0 to 1, by the matplotlib of the pictures and by others:
# those set other letters and margins (3.9 differs by up to 0.10), so only a wrong picture shows there
OPS = ("attn_q", "ffn_up", "softmax")


def fixed_report(machine: str, scale: float):
    """A report whose counts are made by hand, so that only drawing is under test."""
    gemms = [Op(name, numbers={"m": 16, "n": 32, "k": 64}) for name in ("layer0.attn_q", "layer0.ffn_up")]
    vector = Op("layer0.softmax", kind="vector", numbers={"alu_ops": 10, "read_bytes": 8, "write_bytes": 8})
    found = simulate(sp.accelerator(machine), Trace.from_ops([*gemms, vector], {"name": "by_hand"}))
    columns = np.zeros((3, len(COLUMNS)))
    for row, cause in enumerate(("compute", "dram_bandwidth", "vector")):
        columns[row, INDEX[cause]] = scale * 4e5 * (3 - row)
        columns[row, INDEX["edge"]] = scale * 1e5
    columns[:, 0] = columns[:, [INDEX[c] for c in CAUSES]].sum(axis=1)
    columns[:2, INDEX["macs"]] = 4e8, 1e8
    columns[:, INDEX["dram_read_bytes"]] = scale * np.array([1e6, 4e7, 0])
    columns[:, INDEX["dram_write_bytes"]] = scale * np.array([1e6, 1e6, 0])
    columns[:, INDEX["level0_read_bytes"]] = 2e8
    columns[:, INDEX["level1_write_bytes"]] = scale * 5e7
    return dataclasses.replace(found, columns=columns)


def fixed_gantt():
    tiles = np.arange(12.0)[:, None]
    times = np.hstack(
        [tiles * 90, tiles * 90 + 60, tiles * 90 + 60, tiles * 90 + 150, tiles * 90 + 150, tiles * 90 + 170]
    )
    run = simulate(sp.accelerator("dense_ws"), sp.gemm(m=16, k=64, n=32), engine="timeline")
    return dataclasses.replace(run, events=[Events(run.events[0].op, "gemm", 0.0, times)])


def fixed_table(machine, trace, grid):
    """Stands for the evaluation of a grid: the same numbers whatever the simulator says; the last design cannot be."""
    index = grid.index(0, len(grid))
    table = pd.DataFrame({path: [values[i] for i in index[path]] for path, values in grid.values.items()})
    size = np.arange(len(grid), dtype=float) + (4 if machine.name == "dense_ws" else 1)
    table = table.assign(seconds=1e-3 * size, joules=1e-3 / size, utilization=1 / (1 + size), feasible=True, reason="")
    table.loc[len(grid) - 1, ["seconds", "joules", "utilization"]] = np.nan
    table.loc[len(grid) - 1, "feasible"] = False
    return table


def fixed_mask(outputs: int = 40, inputs: int = 100) -> np.ndarray:
    at = np.add.outer(7 * np.arange(outputs), 11 * np.arange(inputs))
    return at % 13 < 4 + (np.arange(outputs) % 5)[:, None]


def fixed_traces() -> Trace:
    masks = [fixed_mask(64 + 16 * i, 128) for i in range(6)]
    ops = [
        Op(f"layer{i}.ffn_up", sparsity=Sparsity(mask=mask), numbers={"m": 4, "n": len(mask), "k": 128})
        for i, mask in enumerate(masks)
    ]
    return Trace.from_ops(ops, {"name": "by_hand"})


def pruned_work(level: int, **meta) -> Trace:
    """One GEMM of a layer that has lost ``level`` per cent of its weights, and a head that has not."""
    shape = {"m": 8, "n": 40, "k": 100}
    layer = Op("layer0.ffn_up", numbers=shape | {"layer": 0, "nonzeros": 40 * (100 - level)})
    about = {"name": f"by_hand_{level}", "recipe": f"wanda_{level}" if level else "dense"} | meta
    return Trace.from_ops([layer, Op("lm_head", numbers=shape)], about)


@functools.cache
def pruned_runs() -> tuple[Report, ...]:
    """Two machines on dense and pruned weights; only the second gets faster, one per cent for each of the zeros."""
    return tuple(
        dataclasses.replace(
            fixed_report(machine, 1 - level / 100 * gains), trace=f"by_hand_{level}", work=pruned_work(level)
        )
        for machine, gains in (("dense_ws", 0), ("sparse_lanes", 1))
        for level in (0, 70, 30)
    )


def study_folder(folder: Path, trials: int = 120) -> Path:
    """A study's files with made trials."""
    folder.mkdir(parents=True, exist_ok=True)
    space = load("edge_codesign")
    at = np.arange(trials)
    good = np.column_stack([1 + at * 7 % 23, 1 + at * 5 % 19, 1 + at * 3 % 17, 1 + at * 11 % 29]).astype(float)
    table = pd.DataFrame(good * [0.01, 1e9, 1.0, 1.0] + [0, 0, 0, 11], columns=list(OBJECTIVES))
    table.insert(0, "trial", at)
    table.insert(1, "machine", np.array(["dense_ws", "nm_24", "sparse_lanes"])[at % 3])
    table["feasible"], table["reason"], table["violation_area"] = True, "", np.where(at % 10, -0.5, 0.5)
    for place, (name, distribution) in enumerate(space.distributions().items()):
        choices = getattr(distribution, "choices", None) or range(distribution.high + 1)
        table[f"param_{name}"] = (at * (place + 1)) % len(choices)
    table.to_parquet(folder / "trials.parquet", index=False)
    front = table[table["violation_area"] < 0].iloc[:12].assign(reported=True)
    front["perplexity_measured"] = front["perplexity"] * 1.05
    front.to_csv(folder / "pareto.csv", index=False)
    run = {"space": json.loads(space.model_dump_json()), "reference_point": [10.0, 1e12, 100.0, 100.0]}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def fixed_gains() -> pd.DataFrame:
    rows = [
        {"method": "wanda", "pattern": str(level), "sparsity": float(level), "ideal": 100 / (100 - level)}
        | {line: 1 + level / 100 / (i + 1) for i, line in enumerate(LINES[1:])}
        for level in (10, 30, 50, 70)
    ]
    return pd.DataFrame([*rows, rows[2] | {"pattern": "2:4"}])


def fixed_reference() -> pd.DataFrame:
    truth = np.array([10.0, 50, 300, 2000])
    rows = [(name, r, r * f) for name, f in (("theirs", 0.7), ("ours", 1.04)) for r in truth]
    return pd.DataFrame(rows, columns=["series", "reference", "predicted"])


def build(kind: str, folder: Path, patch: pytest.MonkeyPatch) -> Figure:
    """One figure of ``kind`` from fixed data."""
    runs = [fixed_report("dense_ws", 1.0), fixed_report("sparse_lanes", 0.6)]
    machines, work = [run.spec for run in runs], runs[0].work
    patch.setattr(dse.figures.sensitivity, "evaluated", fixed_table)
    patch.setattr(dse.figures.heatmap, "evaluated", fixed_table)
    patch.setattr(
        dse.figures.importance, "_shares", lambda *_: {f"memory.shared.part_{i}_kib": 0.5**i for i in range(9)}
    )
    patch.setitem(validation.scatter.AGAINST, "rtl", Reference(fixed_reference, "cycles", "RTL"))
    grid = {"array.rows": [8, 16, 32, 64]}
    made = {
        "roofline": lambda: figure(kind, runs),
        "latency": lambda: figure(kind, runs),
        "energy": lambda: figure(kind, runs),
        "stalls": lambda: figure(kind, runs[0]),
        "traffic": lambda: figure(kind, runs),
        "area": lambda: figure(kind, machines),
        "sensitivity": lambda: figure(kind, machines, traces=work, grid=grid),
        "sparsity": lambda: figure(kind, pruned_runs()),
        "heatmap": lambda: figure(kind, machines[0], trace=work, grid=grid | {"array.cols": [4, 8, 16]}),
        "gantt": lambda: figure(kind, fixed_gantt(), tiles=8),
        "mask": lambda: figure(kind, fixed_mask(), lanes=8, barrier_depth=32),
        "imbalance": lambda: figure(kind, fixed_traces()),
        "pareto": lambda: figure(kind, study_folder(folder)),
        "hypervolume": lambda: figure(kind, study_folder(folder)),
        "importance": lambda: figure(kind, study_folder(folder)),
        "speedup": lambda: figure(kind, fixed_gains()),
        "validation": lambda: figure(kind),
    }
    return made[kind]()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """``made(kind)``: a figure, built once; ``made.canvas(kind, width)``: its drawing, drawn once."""
    return Made(tmp_path_factory.mktemp("studies"))


class Made:
    def __init__(self, folder: Path):
        self.folder = folder
        self.figures, self.canvases = {}, {}

    def __call__(self, kind: str) -> Figure:
        if kind not in self.figures:
            with pytest.MonkeyPatch.context() as patch:
                self.figures[kind] = build(kind, self.folder / kind, patch)
        return self.figures[kind]

    def canvas(self, kind: str, width: float = COLUMN_IN):
        if (kind, width) not in self.canvases:
            self.canvases[kind, width] = self(kind).canvas(width)
        return self.canvases[kind, width]


def saved(canvas, form: str) -> bytes:
    """A canvas as bytes of a PNG of few pixels, or of a PDF without a clock."""
    buffer = io.BytesIO()
    metadata = {"CreationDate": None, "ModDate": None} if form == "pdf" else {}
    with styled():
        canvas.savefig(buffer, format=form, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


every_kind = pytest.mark.parametrize("kind", KINDS)
TWICE = ("mask",)  # by default; the others with the slow tests
PRICED = ("energy", "area")  # drawn from technology tables, not from fixed numbers: no picture is kept


def tolerance() -> float:
    """How far a picture may be from the stored one."""
    import matplotlib

    drawn_by = (BASELINE / "matplotlib.txt").read_text().strip()
    return SAME if matplotlib.__version__.startswith(f"{drawn_by}.") else OTHER


def grey(data: bytes) -> np.ndarray:
    """[rows, columns] of a PNG, 0 to 1, each pixel the mean of its 5 x 5 neighbours."""
    from matplotlib.image import imread

    image = imread(io.BytesIO(data))[..., :3].mean(axis=2)
    padded = np.pad(image, 2, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).mean(axis=(2, 3))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """RMS of the difference; 1 for pictures of another size."""
    return float(np.sqrt(((a - b) ** 2).mean())) if a.shape == b.shape else 1.0


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in PRICED])
def test_it_looks_as_it_did(made, kind):
    stored = grey((BASELINE / f"{kind}.png").read_bytes())
    assert distance(grey(saved(made.canvas(kind), "png")), stored) < tolerance(), (
        "see how this file's docstring renews it"
    )


def test_the_tolerance_sees_another_picture(made):
    """A bar that is a third longer is further away than the tolerance."""
    first = copy.copy(made("latency"))
    stored = grey((BASELINE / "latency.png").read_bytes())
    longer = np.where(first.numbers["bar"] == "sparse_lanes", 1.33, 1.0)
    first.numbers = first.numbers.assign(seconds=first.numbers["seconds"] * longer)
    assert distance(grey(first.png(COLUMN_IN, DPI)), stored) > SAME


@pytest.mark.parametrize("width", [COLUMN_IN, pytest.param(PAGE_IN, marks=pytest.mark.slow)])
@every_kind
def test_it_reads_at_final_size(made, kind, width):
    """Text of 8 points and more, inside the figure; no legend over the data; a label on every axis."""
    from matplotlib.text import Text

    canvas = made.canvas(kind, width)
    with styled():
        canvas.draw_without_rendering()
        assert canvas.get_figwidth() == width and 1.0 < canvas.get_figheight() < 9.0
        page = canvas.bbox
        hidden = _never_drawn(canvas)
        shown = [t for t in canvas.findobj(Text) if t.get_visible() and t.get_text().strip() and id(t) not in hidden]
        assert len(shown) > 4
        for text in shown:
            assert text.get_fontsize() >= 8, text
            box = text.get_window_extent()
            assert box.x0 > -2 and box.x1 < page.width + 2, (text, box)
            assert box.y0 > -2 and box.y1 < page.height + 2, (text, box)
        for axis in canvas.axes:
            for legend in canvas.legends:
                assert not legend.get_window_extent().overlaps(axis.get_window_extent())
            if axis.get_visible() and axis.get_label() != "<colorbar>":
                labelled = [a for a in canvas.axes if a in axis.get_shared_x_axes().get_siblings(axis)]
                assert any(a.get_xlabel() for a in labelled), kind
        for legend in canvas.legends:
            box = legend.get_window_extent()
            assert box.x0 >= -1 and box.x1 <= page.width + 1 and box.y1 <= page.height + 1, (kind, width)


def _never_drawn(canvas) -> set[int]:
    """Ids of labels of ticks that are there but outside the limits of their axis, and of everything on hidden axes."""
    from matplotlib.text import Text

    found = set()
    for axes in canvas.axes:
        if not axes.get_visible():
            found |= {id(text) for text in axes.findobj(Text)}
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks() + axis.get_minor_ticks():
                if not low <= tick.get_loc() <= high:
                    found |= {id(tick.label1), id(tick.label2)}
    return found


@pytest.mark.parametrize("kind", [k if k in TWICE else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_the_pdf_has_editable_fonts_its_own_size_and_no_clock(made, kind):
    page = saved(made(kind).canvas(), "pdf")
    assert b"/Type3" not in page and b"/Type0" in page and b"/CreationDate" not in page
    width = float(re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", page)[1])
    assert width == pytest.approx(72 * COLUMN_IN, abs=0.01)
    assert saved(made(kind).canvas(), "pdf") == page


def test_three_files_or_none(made, tmp_path):
    found = made("latency")
    one, two = found.save(tmp_path / "a" / "one"), found.save(tmp_path / "a" / "two.pdf")
    assert [p.name for p in one] == ["one.pdf", "one.png", "one.csv"] and [p.stem for p in two] == ["two"] * 3
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(p.name for p in [*one, *two])
    assert pd.read_csv(one[2]).equals(found.numbers)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        found.save(tmp_path / "file" / "x")
    (tmp_path / "journal.log").write_text("")
    with pytest.raises(InputError, match="study's own table"):
        found.save(tmp_path / "pareto")


def test_no_data_twice_with_one_look():
    looks = [(bar_look(i)["facecolor"], bar_look(i)["hatch"]) for i in range(63)]
    assert len(set(looks)) == 63 and len(set(OKABE_ITO)) == 8
    for places in ([0, 7, 14, 21], [3, 10, 12, 19], range(12)):
        found = distinct_looks(list(places))
        assert len({(i % 7, i % len(HATCHES)) for i in found}) == len(found)
        assert len({i % 7 for i in found}) == min(len(found), 7)


def bars(axis) -> np.ndarray:
    """(row, start, length) of every bar."""
    return np.array([(p.get_y() + p.get_height() / 2, p.get_x(), p.get_width()) for p in axis.patches])


@pytest.mark.parametrize("kind", ["latency", "energy", "area", "stalls"])
def test_stacked_bars_are_their_numbers(made, kind):
    found = made(kind)
    drawn = bars(made.canvas(kind).axes[0])
    table = found.numbers
    scale = drawn[:, 2].sum() / table[found.column].sum()
    order = table.assign(part=pd.Categorical(table["part"], dict.fromkeys(table["part"]))).sort_values(
        "part", kind="stable"
    )
    assert drawn[:, 2] == pytest.approx(order[found.column].to_numpy() * scale)
    assert np.isclose(scale, [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9]).any()
    assert drawn[:, 1].min() == 0  # bars begin at zero
    for row, part in order.groupby("bar", sort=False):
        mine = drawn[np.isclose(drawn[:, 0], list(dict.fromkeys(table["bar"])).index(row))]
        assert mine[:, 1] == pytest.approx(np.append(0, mine[:-1, 2].cumsum())) and len(mine) == len(part)


def test_breakdowns_add_up_to_the_report():
    report = simulate(sp.accelerator("sparse_lanes"), sp.llm("smollm2_135m", layers=1, tokens=32))
    for kind, options, total in (
        ("latency", {}, report._totals["cycles"] / report.clock_ghz * 1e-9),
        ("latency", {"by": "op"}, report._totals["cycles"] / report.clock_ghz * 1e-9),
        ("energy", {}, report.energy_pj * 1e-12),
        ("energy", {"by": "op"}, report.energy_pj * 1e-12),
        ("area", {}, report.area_mm2),
    ):
        found = figure(kind, report, **options)
        assert found.numbers.iloc[:, 2].sum() == pytest.approx(total), (kind, options)
        assert 1 < found.numbers["part"].nunique() <= MOST + 1
    stalls = figure("stalls", report).numbers.groupby("bar")["percent"].sum()
    assert stalls.to_numpy() == pytest.approx(100.0)
    moved = figure("traffic", report).numbers.set_index("level")
    assert moved.loc["DRAM", ["read_bytes", "written_bytes"]].sum() == pytest.approx(report.dram_bytes)


def test_no_op_is_above_its_roof():
    runs = [
        simulate(sp.accelerator(m), sp.llm("smollm2_135m", layers=1, tokens=32)) for m in ("dense_ws", "sparse_lanes")
    ]
    table = figure("roofline", runs).numbers
    roof = np.minimum(table["peak_gops"], table["ops_per_byte"] * table["dram_gb_per_s"])
    assert (table["gops"] <= roof * (1 + 1e-9)).all() and len(table) > 10
    q = table[(table["bar"] == "dense_ws") & (table["op"] == "attn_q")].iloc[0]
    row = runs[0].table.set_index("name").loc["layer0.attn_q"]
    assert q["ops_per_byte"] == pytest.approx(2 * row["macs"] / (row["dram_read_bytes"] + row["dram_write_bytes"]))


def test_small_parts_join_other():
    class Bars(StackedBars):
        column, unit, label = "seconds", "s", "time"

    found = Bars()
    found.set_bars({"a": {"big": 99.0, "x": 0.5, "y": 0.5}, "b": {"big": 50.0, "x": 0.25}})
    assert found.numbers.pivot(index="bar", columns="part", values="seconds").loc["a", "other"] == 1.0
    found.set_bars({"a": {"big": 99.5, "x": 0.5}})  # alone it keeps its name
    assert list(found.numbers["part"]) == ["big", "x"]
    found.set_bars({"a": {f"p{i}": 1.0 + i for i in range(30)}})
    assert found.numbers["part"].nunique() == MOST + 1 and found.numbers["seconds"].sum() == pytest.approx(465)
    with pytest.raises(InputError, match="every seconds is zero"):
        found.set_bars({"a": {"x": 0.0}})


def test_lines_and_points_are_their_numbers(made):
    found = made("sensitivity")
    axis = made.canvas("sensitivity").axes[0]
    lines = [line for line in axis.lines if line.get_label() in ("dense_ws", "sparse_lanes")]
    for line, (_, part) in zip(lines, found.numbers.groupby("machine", sort=False), strict=True):
        assert line.get_ydata() == pytest.approx(part["seconds"].to_numpy() * 1e3, nan_ok=True)
    crosses = [len(line.get_xdata()) for line in axis.lines if line.get_marker() == "x"]
    assert crosses == [1, 1]  # what cannot be built is shown
    volume = made("hypervolume")
    assert made.canvas("hypervolume").axes[0].lines[0].get_ydata() == pytest.approx(
        volume.numbers["hypervolume"].to_numpy()
    )
    assert volume.numbers["hypervolume"].is_monotonic_increasing
    heat = made("heatmap")
    mesh = made.canvas("heatmap").axes[0].collections[0].get_array()
    assert mesh.filled(np.nan).ravel() == pytest.approx(100 * heat.numbers["utilization"].to_numpy(), nan_ok=True)
    scatter = made("validation")
    drawn = [c.lines[0].get_ydata() for c in made.canvas("validation").axes[0].containers]
    assert np.concatenate(drawn) == pytest.approx(scatter.numbers["predicted"].to_numpy())
    assert scatter.numbers.groupby("series")["median_error_percent"].first().to_dict() == pytest.approx(
        {"theirs": 30.0, "ours": 4.0}
    )


def test_a_line_does_not_double_back(monkeypatch):
    monkeypatch.setattr(dse.figures.sensitivity, "evaluated", fixed_table)
    found = figure("sensitivity", sp.accelerator("dense_ws"), traces=sp.gemm(8, 8, 8), grid={"array.rows": [32, 8, 16]})
    line = found.canvas(COLUMN_IN).axes[0].lines[0]
    seconds = found.numbers.set_index("array.rows")["seconds"]
    assert list(line.get_xdata()) == [8, 16, 32] and list(found.numbers["array.rows"]) == [32, 8, 16]
    assert line.get_ydata() == pytest.approx(1e3 * seconds[[8, 16, 32]].to_numpy(), nan_ok=True)


def test_a_sweep_is_the_simulators(made):
    machine, work = sp.accelerator("dense_ws"), sp.gemm(m=32, k=64, n=64)
    table = evaluated(machine, work, grid_of({"array.rows": [8, 16], "clock_ghz": [0.5, 5.0]}, 2))
    report = simulate(machine.override({"array.rows": 16, "clock_ghz": 0.5}), work)
    row = table[(table["array.rows"] == 16) & (table["clock_ghz"] == 0.5)].iloc[0]
    assert row["seconds"] == report.seconds and row["utilization"] == pytest.approx(report.utilization)
    assert row["joules"] == pytest.approx(report.energy_pj * 1e-12) and row["area_mm2"] == pytest.approx(
        report.area_mm2
    )
    assert list(table["feasible"]) == [True, False, True, False] and table["utilization"].isna().sum() == 2


def test_gains_are_over_the_baseline_on_dense_weights(made):
    """Sparsity is that of the layers (the head stays dense), in order; each gain is cost over cost."""
    table = made("sparsity").numbers
    assert table["sparsity"].to_numpy() == pytest.approx([0, 0.3, 0.7] * 2)
    assert list(table["method"]) == ["dense", "wanda", "wanda"] * 2
    assert table["gain"].to_numpy() == pytest.approx([1, 1, 1, 1, 1 / 0.7, 1 / 0.3])  # the ideal, by construction
    ideal, *lines = made.canvas("sparsity").axes[0].lines
    assert ideal.get_ydata()[[0, -1]] == pytest.approx([1, 1 / 0.3]) and ideal.get_xdata()[-1] == pytest.approx(70)
    for line, (_, part) in zip(lines, table.groupby("machine", sort=False), strict=True):
        assert line.get_xdata() == pytest.approx(100 * part["sparsity"].to_numpy())
        assert line.get_ydata() == pytest.approx(part["gain"].to_numpy())
    runs = pruned_runs()
    for metric, cost in (("energy", lambda r: r.energy_pj), ("edp", lambda r: r.energy_pj * r.seconds)):
        found = figure("sparsity", runs, metric=metric, baseline="sparse_lanes").numbers
        gains = found.set_index(["machine", "sparsity"])["gain"]
        assert gains["dense_ws", 0] == pytest.approx(cost(runs[3]) / cost(runs[0])) and gains["sparse_lanes", 0] == 1


def test_gains_of_named_machines_are_the_simulators(monkeypatch):
    """A machine that cannot skip gains nothing, one that can never loses by more zeros; the baseline need not be
    drawn."""
    monkeypatch.setattr(dse.figures.sparsity, "_traces", lambda *_: masked_traces())
    mine = sp.accelerator("sparse_lanes")
    found = figure("sparsity", ["dense_ws", mine], labels=["theirs", "mine"]).numbers
    theirs, ours = (part["gain"].to_numpy() for _, part in found.groupby("machine", sort=False))
    assert (theirs == 1).all() and (np.diff(ours) >= 0).all() and ours[-1] > ours[0]
    assert list(found["machine"].unique()) == ["theirs", "mine"]
    other = simulate(sp.accelerator("tpu_like"), masked_traces()[0])
    over = figure("sparsity", [mine], baseline="tpu_like").numbers
    assert over["gain"].to_numpy() == pytest.approx(other.seconds / over["seconds"].to_numpy())
    assert over["cycles"].to_numpy() == pytest.approx([simulate(mine, work).cycles for work in masked_traces()])


def masked_traces() -> list[Trace]:
    """One GEMM with three densities of random zeros, the first dense."""
    return [
        Trace.from_ops(
            [Op("up", sparsity=Sparsity(density=d) if d < 1 else None, numbers={"m": 32, "n": 64, "k": 128})],
            {"name": f"kept_{d}"},
        )
        for d in (1.0, 0.6, 0.3)
    ]


@pytest.mark.slow
def test_gains_on_the_bundled_model():
    """Measured sparsity is what the traces' names say; a dense machine gains nothing from any."""
    for method, phase in (("wanda", "prefill"), ("magnitude", "decode")):
        found = figure("sparsity", ["dense_ws", "sparse_lanes"], method=method, phase=phase).numbers
        dense, lanes = (part.reset_index(drop=True) for _, part in found.groupby("machine", sort=False))
        assert dense["sparsity"].to_numpy() == pytest.approx(np.arange(0, 0.8, 0.1), abs=1e-3)
        assert (dense["gain"] == 1).all() and lanes["gain"].is_monotonic_increasing
        assert (lanes["gain"] < 1 / (1 - lanes["sparsity"]) + 0.06).all() and lanes["gain"].iloc[-1] > 1.3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda runs: runs[1:], "no report of 'dense_ws' on dense weights"),
        (lambda runs: [*runs, runs[1]], "'by_hand_70' is there twice"),
        (lambda runs: [*runs, "dense_ws"], "not both"),
        (lambda runs: [*runs[:-1], dataclasses.replace(runs[-1], work=pruned_work(70, phase="decode"))], "of phase"),
        (
            lambda runs: [*runs[:-1], dataclasses.replace(runs[-1], work=pruned_work(70, method="mine"))],
            "one pruning method, these are of mine and wanda",
        ),
    ],
)
def test_runs_that_have_no_gain_are_refused(change, why):
    with pytest.raises(InputError, match=why):
        figure("sparsity", change(pruned_runs()))


def test_tiles_are_the_timelines():
    run = simulate(sp.accelerator("dense_ws"), sp.gemm(m=128, k=256, n=512), engine="timeline")
    found = Gantt(run, tiles=3, first=2)
    times = run.events[0].times / (run.clock_ghz * 1e9)
    array = found.numbers[found.numbers["activity"] == "array"]
    assert list(array["tile"]) == [2, 3, 4]
    assert array[["start_s", "end_s"]].to_numpy() == pytest.approx(times[1:4, 2:4])


def test_lanes_of_a_mask(made):
    mask = fixed_mask()
    table = figure("mask", mask, lanes=8, barrier_depth=32, rows=16, columns=64).numbers
    assert len(table) == 16 and list(table["owner"]) == list(range(16))
    assert list(table["nonzeros"]) == mask[:16, :64].sum(axis=1).tolist()
    work = mask[:8, :64].reshape(8, 2, 32).sum(axis=2)
    assert table["group_cycles"].iloc[0] == 1 + work.max(axis=0).sum()  # no FIFO: meet at every barrier
    assert table["kept"].iloc[3] == "".join("01"[int(bit)] for bit in mask[3, :64])
    apart = figure("mask", mask, lanes=8, orientation="input", assignment="interleaved").numbers
    groups = -(-mask.shape[1] // 8)
    assert list(apart["owner"][:3]) == [0, groups, 2 * groups]


def test_imbalance_counts_every_mask_once():
    found = figure("imbalance", fixed_traces(), lanes=8).numbers
    assert found.groupby("series")["masks"].sum().to_dict() == {"output lanes": 6, "input lanes": 6}
    assert (found["low"] >= 1).all() and (found["worst"] >= found["mean"]).all()
    even = np.ones((64, 128), bool)
    flat = Trace.from_ops([Op("x", sparsity=Sparsity(mask=even), numbers={"m": 1, "n": 64, "k": 128})], {})
    assert figure("imbalance", flat, orientations="output").numbers["worst"].iloc[0] == pytest.approx(1.0)


def test_a_front_is_the_studys(tmp_path):
    folder = study_folder(tmp_path / "s")
    found = figure("pareto", folder, x="area", y="latency", colour="energy").numbers
    trials, front = pd.read_parquet(folder / "trials.parquet"), pd.read_csv(folder / "pareto.csv")
    assert len(found) == (trials["violation_area"] <= 0).sum() and set(found["trial"][found["on_front"]]) == set(
        front["trial"]
    )
    best = found[found["best_of_two"]].sort_values("area_mm2")
    assert best["latency_s"].is_monotonic_decreasing
    for row in found[~found["best_of_two"]].itertuples():
        assert ((best["area_mm2"] <= row.area_mm2) & (best["latency_s"] <= row.latency_s)).any()
    assert found["perplexity_measured"].notna().sum() == len(front)


def test_importance_finds_what_decides(tmp_path):
    folder = study_folder(tmp_path / "s", 400)
    table = pd.read_parquet(folder / "trials.parquet")
    random = np.random.default_rng(0)
    for column in [c for c in table if c.startswith("param_")]:
        table[column] = random.permutation(table[column].to_numpy())
    table["latency_s"] = 10.0 ** (-table["param_array.rows"])
    table.to_parquet(folder / "trials.parquet", index=False)
    found = figure("importance", folder, top=3).numbers
    assert found["parameter"].iloc[0] == "array.rows" and found["importance"].iloc[0] > 0.5 and len(found) == 3


def test_words_on_axes():
    assert [plain(v) for v in (0, 0.05, 20, 5e4, 2e6, 1e-4)] == ["0", "0.05", "20", "50k", "2M", "100µ"]
    assert prefixed(0.02, "s") == (1e3, "ms") and prefixed(5e9, "B") == (1e-9, "GB") and prefixed(0, "s") == (1.0, "s")
    assert field_label("memory.shared.capacity_kib") == "memory.shared.capacity (KiB)"
    assert field_label("array.rows") == "array.rows"
    assert shortened(["m_wanda_50", "m_wanda_60", "m_magnitude_50"]) == ["wanda_50", "wanda_60", "magnitude_50"]
    assert shortened(["same"]) == ["same"] and isinstance(Metric("a", "b", None), Metric)
    runs = [fixed_report("dense_ws", 1.0)] * 2
    with pytest.raises(InputError, match="both called 'dense_ws'"):
        names_of(runs)
    assert names_of(runs, ["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("kind", "data", "options", "why"),
    [
        ("rofline", None, {}, "did you mean 'roofline'"),
        ("latency", None, {}, "one report or a list"),
        ("latency", [], {}, "nothing"),
        ("latency", "run", {"bye": "op"}, "no option 'bye'"),
        ("latency", "run", {"by": "ops"}, "did you mean 'op'"),
        ("latency", "run", {"labels": ["a", "b"]}, "labels: 1 are needed, got 2"),
        ("latency", "run", {"width": 4}, "width must be 3.5"),
        ("energy", "run", {"by": "cause"}, "component or op"),
        ("stalls", "runs", {}, "one report"),
        ("area", 3, {}, "machine or report"),
        ("gantt", "run", {}, "engine='timeline'"),
        ("sensitivity", "machine", {}, "needs traces="),
        ("sensitivity", "machine", {"traces": "work", "grid": {"array.rows": [8]}}, "at least two values"),
        ("sensitivity", "machine", {"traces": "work", "grid": {"array.row": [8, 16]}}, "array.row"),
        ("sensitivity", "machine", {"traces": "work", "grid": {"array.rows": [8, 16]}, "metric": "laten"}, "latency"),
        ("sensitivity", "machine", {"traces": "work", "grid": {"clock_ghz": [5, 6]}}, "no feasible design"),
        ("sparsity", 3, {}, "machines, their names, or reports"),
        ("sparsity", "dense_w", {}, "dense_ws"),
        ("sparsity", "machine", {"method": "wander"}, "did you mean 'wanda'"),
        ("sparsity", "machine", {"phase": "decoding"}, "did you mean 'decode'"),
        ("sparsity", "machine", {"metric": "area"}, "metric 'area' is unknown"),
        ("sparsity", "machine", {"baseline": "tpu"}, "tpu"),
        ("sparsity", ["dense_ws", "dense_ws"], {}, "both called 'dense_ws': give labels"),
        ("sparsity", "run", {"method": "wanda"}, "leave them out with reports"),
        ("sparsity", "run", {"baseline": "dense"}, "did you mean 'dense_ws'"),
        ("heatmap", "machine", {"trace": "work", "grid": {"array.rows": [8, 16]}}, "two fields"),
        ("mask", "work", {}, "has no masks"),
        ("mask", np.ones((4, 4)), {"lanes": 0}, "lanes must be"),
        ("mask", np.ones((4, 4)), {"barrier_depth": "none"}, "barrier_depth"),
        ("mask", np.ones(4), {}, "out x in"),
        ("imbalance", "work", {}, "no profiles"),
        ("imbalance", "pruned", {"lanes": 7}, "profiles hold lanes"),
        ("imbalance", "pruned", {"orientations": "outputs"}, "did you mean 'output'"),
        ("pareto", "no/such", {}, "no such file"),
        ("pareto", 5, {}, "folder of an exploration"),
        ("pareto", "no/such", {"x": "energy"}, "three different"),
        ("importance", "no/such", {"metric": "speed"}, "unknown"),
        ("importance", "no/such", {"method": "fanova", "metric": "front"}, "ped_anova"),
        ("importance", "no/such", {"top": 0}, "top must be"),
        ("hypervolume", [], {}, "folder of an exploration"),
        ("speedup", 1, {}, "takes the table"),
        ("speedup", None, {"methods": ["wander"]}, "did you mean 'wanda'"),
        ("validation", None, {"against": "rlt"}, "did you mean 'rtl'"),
        ("validation", 1, {}, "takes no data"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(tmp_path, monkeypatch, kind, data, options, why):
    monkeypatch.chdir(tmp_path)
    run = fixed_report("dense_ws", 1.0)
    named = {"run": run, "runs": [run, run], "machine": run.spec, "work": run.work, "pruned": fixed_traces()}

    def value(word):
        return named.get(word, word) if isinstance(word, str) else word

    with pytest.raises(InputError) as refused:
        figure(kind, value(data), out="new/figure", **{k: value(v) for k, v in options.items()})
    assert why in str(refused.value) and "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_study_is_refused(tmp_path):
    folder = study_folder(tmp_path / "s")
    (folder / "pareto.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"pareto.csv: column '\w+' is missing"):
        figure("pareto", folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match="not a study's folder, or damaged"):
        figure("hypervolume", folder)


def test_a_figure_shows_itself(made):
    found = made("latency")
    found.shown_in = PAGE_IN
    assert found._repr_png_().startswith(b"\x89PNG") and sp.figure is figure


def main() -> None:
    """Write every baseline anew."""
    import tempfile

    import matplotlib

    BASELINE.mkdir(exist_ok=True)
    (BASELINE / "matplotlib.txt").write_text(".".join(matplotlib.__version__.split(".")[:2]) + "\n")
    for kind in KINDS:
        if kind not in PRICED:
            with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
                (BASELINE / f"{kind}.png").write_bytes(build(kind, Path(folder) / "s", patch).png(COLUMN_IN, DPI))


if __name__ == "__main__":
    main()
