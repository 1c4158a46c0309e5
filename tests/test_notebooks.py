"""The notebooks: each .py is the source of its .ipynb, neither names places on a machine, and each runs."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
LARGEST = 300_000  # bytes of an .ipynb
PLACES = re.compile(r"""(^|["'(=\s])(/(home|root|work|tmp|Users|usr|opt|mnt)/|[A-Z]:\\)""")
every_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)


def test_there_is_an_ipynb_for_every_py_and_no_other():
    assert len(SOURCES) == 6
    assert [s.stem for s in SOURCES] == sorted(p.stem for p in FOLDER.glob("*.ipynb"))


@every_notebook
def test_pair_says_the_same(source):
    run = pytest.importorskip("notebooks.run", reason="needs the notebooks extra")
    stored, made = json.loads(source.with_suffix(".ipynb").read_text()), run.paired(source)
    assert stored["metadata"]["kernelspec"]["name"] == "python3"
    assert [(c["cell_type"], "".join(c["source"])) for c in stored["cells"]] == [
        (c["cell_type"], c["source"]) for c in made.cells
    ], "run: python notebooks/run.py --pair"


@every_notebook
def test_outputs_are_whole_small_and_of_no_machine(source):
    """Outputs are all there (``run.py --write``) or not at all; none is an error, an address or a folder of ours."""
    path = source.with_suffix(".ipynb")
    code = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    assert path.stat().st_size < LARGEST
    assert [c["execution_count"] for c in code] in ([None] * len(code), list(range(1, len(code) + 1)))
    for output in (o for c in code for o in c["outputs"]):
        assert output["output_type"] != "error" and output.get("name") != "stderr", output
        shown = "".join(output.get("text", "")) + "".join("".join(output.get("data", {}).get("text/plain", "")))
        assert not PLACES.search(shown) and not re.search(r" at 0x[0-9a-f]{6}", shown), shown


@every_notebook
def test_source_compiles_asserts_and_names_no_place_on_this_machine(source):
    text = source.read_text()
    tree = ast.parse(text)
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(tree)) >= 5, "what the text claims is asserted"
    assert not PLACES.search(text)
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        assert getattr(call.func, "id", "") not in ("exec", "eval", "input")


@every_notebook
def test_page_lists_it(source):
    page = (FOLDER.parent / "docs" / "notebooks.md").read_text()
    assert f"{source.stem}.ipynb" in page


@pytest.mark.slow
@every_notebook
def test_runs_in_an_empty_folder(source, tmp_path):
    """Every cell, every assert, in the interpreter that runs the tests; nothing is written beside the notebook."""
    run = pytest.importorskip("notebooks.run", reason="needs the notebooks extra")
    before = sorted(FOLDER.iterdir())
    done = run.execute(source, tmp_path)
    print(f"\n{source.stem}: {done.wall_s:.0f} s wall, {done.cpu_s:.0f} s CPU")
    assert done.cpu_s < run.LIMIT_S
    assert sorted(FOLDER.iterdir()) == before
    last = [c for c in done.notebook.cells if c.cell_type == "code"][-1]
    assert last.execution_count == sum(c.cell_type == "code" for c in done.notebook.cells)
