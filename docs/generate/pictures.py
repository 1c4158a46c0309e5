"""The two pictures of docs/house.md as SVG, drawn from boxes and arrows: ``python docs/generate/pictures.py`` writes
them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

DOCS = Path(__file__).parents[1]
INK, PAPER = "#1a1a1a", "#ffffff"
#: Tints of the Okabe-Ito colours; text carries the meaning.
SKY, SAND, MINT, ROSE, GREY = "#d6ecf9", "#fbeccb", "#d3efe5", "#f6dfec", "#ececec"
TITLE, SMALL, LINE = 15, 12.5, 17


class Drawing:
    """Boxes and arrows on a white page of ``width`` x ``height`` pixels."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
            f'font-family="Helvetica, Arial, sans-serif" fill="{INK}">'
        )
        self.parts = [
            f"<title>{escape(title)}</title>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            f'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        ]

    def box(self, x: int, y: int, w: int, h: int, title: str, lines: Sequence[str] = (), tint: str = GREY) -> None:
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="6" fill="{tint}" stroke="{INK}" stroke-width="1"/>'
        )
        self.text(x + 12, y + 22, title, TITLE, bold=True)
        for i, line in enumerate(lines):
            self.text(x + 12, y + 22 + LINE * (i + 1) + 2, line)

    def text(self, x: int, y: int, words: str, size: float = SMALL, bold: bool = False, anchor: str = "start") -> None:
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'
        )

    def arrow(self, *points: tuple[int, int], dashed: bool = False) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        path = " ".join(f"{x},{y}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.3"{dash} marker-end="url(#tip)"/>'
        )

    def svg(self) -> str:
        return "\n".join([self.head, *self.parts, "</svg>"]) + "\n"


def house() -> str:
    """The floors; imports only go down."""
    d = Drawing(900, 416, "The floors of the house: imports only go down")
    floors = (
        (
            5,
            "sparchitect",
            ("the face: public names (import sparchitect as sp, loaded lazily) and the command line",),
            GREY,
        ),
        (
            4,
            "validation",
            ("why believe it: RTL, Gemmini, ZigZag, Sparseloop, DRAMsim3, each a runner and its rows",),
            ROSE,
        ),
        (3, "dse", ("what to try, how it looks: spaces, sweeps, Optuna studies, Pareto fronts, figures",), SAND),
    )
    y = 16
    for number, name, lines, tint in floors:
        d.text(24, y + 34, str(number), TITLE, bold=True, anchor="middle")
        d.box(48, y, 836, 58, name, lines, tint)
        y += 70
    d.text(24, y + 54, "2", TITLE, bold=True, anchor="middle")
    d.box(
        48,
        y,
        520,
        92,
        "workloads",
        (
            "what runs: models and phases, checkpoints, pruning, quantisation, accuracy",
            "one short file a method, found by name; bundled masks and measured",
            "perplexities of SmolLM2-135M",
        ),
        MINT,
    )
    d.box(
        584,
        y,
        300,
        92,
        "accel_models",
        ("what it runs on: one YAML page a", "machine, a source for every constant,", "the loader"),
        MINT,
    )
    y += 104
    d.text(24, y + 50, "1", TITLE, bold=True, anchor="middle")
    d.box(
        48,
        y,
        836,
        72,
        "sim",
        (
            "how long, how much. Takes an Accelerator and a Trace, gives a Report; knows no LLM, no file, no Optuna",
            "compute · sparsity · memory · mapping search · energy and area · two engines · several chips",
        ),
        SKY,
    )
    return d.svg()


def data_way() -> str:
    """From weights and a machine file to a report, and from a space to a Pareto front."""
    d = Drawing(900, 560, "The data's way: weights and a machine file to a report, a space to a Pareto front")
    d.box(16, 16, 196, 74, "checkpoint", ("safetensors, GGUF, npz;", "SmolLM2 through pip"), MINT)
    d.box(16, 112, 196, 74, "models, imports", ("shapes of a zoo, all phases;", "ONNX and torch modules"), MINT)
    d.box(256, 16, 220, 74, "prune, quantise", ("masks out x in, exact bits,", "calibration on real text"), MINT)
    d.box(
        520,
        16,
        364,
        74,
        "measure",
        ("perplexity in the arithmetic that is priced: W8A8KV8;", "labels: measured, predicted, published, unknown"),
        MINT,
    )
    d.box(
        256,
        112,
        220,
        96,
        "profile",
        ("each mask once: exact lane", "cycles on a grid of designs,", "row and column counts"),
        MINT,
    )
    d.box(
        520,
        122,
        364,
        76,
        "Trace",
        ("a table of ops with shapes, bits, bytes; profiles, masks", "(Parquet and npz)"),
        SKY,
    )
    d.box(16, 238, 196, 74, "machine YAML", ("one page, sources,", "field paths to override"), MINT)
    d.box(256, 238, 220, 74, "Accelerator", ("checked fields, units in names,", "a hash of the configuration"), SKY)
    d.box(
        520,
        228,
        364,
        96,
        "mapping search",
        (
            "tiles, loop orders, splits of every op and tier; what a",
            "bound proves worse is left out; look-ups of the",
            "profile, or the tiles' own zeros",
        ),
        SKY,
    )
    d.box(520, 348, 174, 78, "analytic", ("closed forms, whole", "batches of designs"), SKY)
    d.box(710, 348, 174, 78, "timeline", ("tile by tile through", "buffers and one DRAM"), SKY)
    d.box(
        256,
        338,
        220,
        98,
        "Report",
        ("cycles by cause, bytes by", "level, energy, area, what would", "help; table, JSON, Perfetto"),
        SKY,
    )
    d.box(16, 352, 196, 74, "space YAML", ("fields x machines x", "pruning x constraints"), SAND)
    d.box(
        16,
        466,
        460,
        76,
        "study",
        (
            "Optuna proposes a machine and a pruning, in batches;",
            "latency, energy, area, perplexity; a journal that resumes",
        ),
        SAND,
    )
    d.box(
        520,
        466,
        364,
        76,
        "Pareto front",
        ("table, figure, run.json with seed and hashes; --verify", "measures the reported perplexities again"),
        SAND,
    )
    d.arrow((212, 53), (254, 53))
    d.arrow((476, 53), (518, 53))
    d.arrow((366, 90), (366, 110))
    d.arrow((476, 160), (518, 160))
    d.arrow((212, 149), (236, 149), (236, 216), (500, 216), (500, 180), (518, 180))
    d.arrow((700, 90), (700, 120))
    d.arrow((702, 198), (702, 226))
    d.arrow((212, 275), (254, 275))
    d.arrow((476, 275), (518, 275))
    d.arrow((607, 324), (607, 346))
    d.arrow((797, 324), (797, 346))
    d.arrow((520, 387), (478, 387))
    d.arrow((797, 426), (797, 446), (496, 446), (496, 420), (478, 420))
    d.arrow((114, 426), (114, 464))
    d.arrow((366, 436), (366, 464))
    d.arrow((476, 504), (518, 504))
    d.arrow((234, 466), (234, 290), (254, 290), dashed=True)
    return d.svg()


PICTURES = {"house.svg": house, "data_way.svg": data_way}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (DOCS / name).write_text(draw(), encoding="utf-8")
