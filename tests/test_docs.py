"""The documentation says what is so: fields, commands, names, files and tests that it names are there, all of them."""

from __future__ import annotations

import ast
import base64
import json
import re
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

import sparchitect as sp
from dse.space import Space
from sim.errors import InputError
from sim.spec import Accelerator
from workloads.pruning import methods

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "generate"))

import api_page  # noqa: E402
import cli_page  # noqa: E402
import field_pages  # noqa: E402
import notebook_pages  # noqa: E402
import pictures  # noqa: E402
import prose  # noqa: E402
import pruning_page  # noqa: E402
import tables  # noqa: E402

PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAVIGATION = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
GENERATED = {
    "machine fields": field_pages.machine_page,
    "space fields": field_pages.space_table,
    "command line": cli_page.page,
    "python": api_page.page,
    "pruning methods": pruning_page.page,
}
UNITS = {
    "_kib": "KiB", "_gb_per_s": "GB/s", "_ghz": "GHz", "_bits": "bit", "_bytes": "byte", "hop_mm": "mm", "_ns": "ns",
    "_nm": "nm", "pj_per_bit_mm": "pJ/(bit mm)", "_mm2": "mm2",
}  # fmt: skip
TABLE_ROW = re.compile(r"(?<!\\)\|")


def fences(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def without_code(text):
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


@cache
def functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def anchors(text):
    """Headings as Markdown makes anchors of them."""
    found = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in found}


# ---- generated reference


def machine_rows():
    return list(tables.fields(Accelerator, field_pages.LEVELS))


@pytest.mark.parametrize(
    ("file", "paths"),
    [
        ("machine_fields.csv", field_pages.paths(Accelerator, field_pages.LEVELS)),
        ("space_fields.csv", field_pages.paths(Space, {})),
    ],
)
def test_every_field_has_a_meaning_and_the_unit_of_its_name(file, paths):
    told = tables.meanings(DOCS / "generate" / file)
    assert list(told) and set(told) == set(paths)
    assert all(len(meaning.split()) >= 3 for _, meaning in told.values())
    for path, (unit, _) in told.items():
        for ending, wanted in UNITS.items():
            assert not path.endswith(ending) or unit == wanted, path


def test_every_field_is_on_its_page():
    page = field_pages.machine_page()
    assert all(f"| `{row.path}` |" in page for row in machine_rows())
    assert all(f"| `{path}` |" in field_pages.space_table() for path in field_pages.paths(Space, {}))


def test_a_field_without_a_meaning_is_refused(tmp_path, monkeypatch):
    kept = (DOCS / "generate" / "space_fields.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "space_fields.csv").write_text("\n".join(kept[:-1]), encoding="utf-8")
    monkeypatch.setattr(field_pages, "HERE", tmp_path)
    with pytest.raises(ValueError, match=kept[-1].split(",")[0]):
        field_pages.space_table()


def test_defaults_are_those_of_a_machine_that_says_nothing():
    level = {"keeps": ["weights", "inputs", "outputs"], "capacity_kib": 64, "bandwidth_gb_per_s": 64}
    least = {"name": "x", "clock_ghz": 1, "array": {"rows": 4, "cols": 4}, "memory": {"level": level}}
    made = sp.accelerator(least | {"vector": {"lanes": 1, "special_function_lanes": 1}}).model_dump()
    for row in machine_rows():
        value = made
        for key in row.path.replace("<level>", "level").split("."):
            value = value[key]
        if row.default == "required":
            continue
        shown = {"none": None, "empty": value or "", "true": True, "false": False}.get(row.default, row.default)
        assert (not value) if row.default == "empty" else shown in (value, f"`{value}`"), row.path


def test_ranges_are_where_values_begin_to_be_refused():
    machine = sp.accelerator("dense_ws")
    checked = 0
    for row in machine_rows():
        path = row.path.replace("<level>", "shared")
        for sign, number in re.findall(r"(>=|<=|>) ([\d,.e+]+)", row.allowed):
            limit = float(number.replace(",", ""))
            wrong = {"<=": limit * 2 + 1, ">=": limit - 1, ">": limit}[sign]
            with pytest.raises(InputError, match=path.split(".")[-1]):
                machine.override({path: int(wrong) if row.allowed.startswith("whole") else wrong})
            checked += 1
    assert checked > 40


def test_every_command_and_option_is_in_the_reference():
    page = cli_page.page()
    for words, command in cli_page.commands():
        part = page.split(f"## {words}\n", 1)[1].split("\n## ", 1)[0]
        for parameter in command.params:
            spelled = (
                parameter.name.upper() if parameter.param_type_name == "argument" else max(parameter.opts, key=len)
            )
            assert spelled in part or (parameter.metavar or "?") in part, (words, spelled)
            assert parameter.help, (words, spelled)


def test_every_public_name_is_in_the_reference():
    page = api_page.page()
    for name in sp.__all__:
        assert f"\n### {name}\n" in page or name.startswith("__"), name
        assert name.startswith("__") or len(getattr(sp, name).__doc__ or "") > 20, f"{name} has no docstring"


def test_every_pruning_method_tells_its_distance_to_the_paper():
    page = pruning_page.page()
    rows = [TABLE_ROW.split(line) for line in page.splitlines() if line.startswith("| [`")]
    table = {re.search(r"`(\w+)`", row[1])[1]: row[5] for row in rows}
    assert set(table) == set(methods())
    for name in methods():
        section = page.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
        for word in ("stand-in", "from memory", "left out"):
            assert (word not in section.lower()) or word in table[name].lower(), (name, word)


@pytest.mark.parametrize("page", GENERATED)
def test_generated_pages_are_markdown(page):
    text = GENERATED[page]()
    assert not re.search(r":(class|func|mod|data|attr|meth):", text)
    assert "``" not in without_code(text).replace("```", "")


def test_docstrings_become_markdown():
    said = (
        "First :class:`~a.B` line\nof two.\n\nThe rule::\n\n    x = 1\n\n    y = 2\n\n"
        "Args:\n    one: the\n        first.\n    two, three: more.\n\n- a point\n  of two lines\n- another"
    )
    assert prose.markdown(said).split("\n\n") == [
        "First `a.B` line of two.",
        "The rule:",
        "```text\nx = 1",
        "y = 2\n```",
        "**Args**",
        "- `one`: the first.\n- `two, three`: more.",
        "- a point of two lines\n- another",
    ]


# ---- pages


def test_every_page_is_in_the_navigation():
    named = re.findall(r"[\w/]+\.md", json.dumps(NAVIGATION))
    assert len(named) == len(set(named))
    assert {name for name in named if "/" not in name} == set(PAGES)


@pytest.mark.parametrize("name", [*PAGES, "README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_files_and_tests_that_a_page_names_are_there(name):
    text = PAGES.get(name) or (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(
        r"`((?:sim|workloads|dse|validation|accel_models|tests|benchmarks|docs)/[\w/.-]+\.\w+)`", text
    ):
        assert (ROOT / path).is_file() or path.endswith("mine.yaml"), path
    for path, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text):
        assert test in functions(ROOT / path), (path, test)


@pytest.mark.parametrize("name", [*PAGES, "README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_tables_have_one_cell_a_column(name):
    text = without_code(PAGES.get(name) or (ROOT / name).read_text(encoding="utf-8"))
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        widths = {len(TABLE_ROW.split(line)) for line in block.splitlines()}
        assert len(widths) == 1, block.splitlines()[0]


def test_every_equation_names_its_source_its_module_and_its_test():
    rows = [TABLE_ROW.split(line)[1:-1] for line in PAGES["equations.md"].splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[2].strip() != "where"]
    assert len(rows) > 60
    for equation, source, where, pinned in rows:
        assert equation.strip() and source.strip()
        assert re.search(r"`\w[\w/]*\.py`", where), equation
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", pinned), equation


@pytest.mark.parametrize("name", [*PAGES, "README.md"])
def test_commands_that_a_page_shows_exist(name):
    known = dict(cli_page.commands())
    for block in fences(PAGES.get(name) or README, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if not words or words[0] != "sparchitect":
                continue
            command = known.get(" ".join(words[:3])) or known.get(" ".join(words[:2]))
            assert command is not None, line
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            assert {word for word in words if word.startswith("-")} <= options | {"--help"}, line


@pytest.mark.parametrize("name", [*PAGES, "README.md"])
def test_python_that_a_page_shows_uses_public_names(name):
    for block in fences(PAGES.get(name) or README, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sp":
                assert node.attr in sp.__all__, node.attr


def test_pictures_are_what_their_script_draws():
    for name, draw in pictures.PICTURES.items():
        assert (DOCS / name).read_text(encoding="utf-8") == draw(), f"run: python docs/generate/pictures.py ({name})"


def test_notebooks_become_pages(tmp_path):
    picture = base64.b64encode(b"png").decode()
    cells = [
        {"cell_type": "markdown", "source": ["# A title\n", "\n", "text"]},
        {"cell_type": "code", "source": "print(1)", "outputs": [{"output_type": "stream", "text": ["1\n", "2\n"]}]},
        {
            "cell_type": "code",
            "source": "draw()",
            "outputs": [{"output_type": "display_data", "data": {"image/png": picture}}],
        },
        {"cell_type": "code", "source": "1/0", "outputs": [{"output_type": "error", "ename": "E", "evalue": "zero"}]},
        {"cell_type": "code", "source": "", "outputs": []},
    ]
    file = tmp_path / "07_x.ipynb"
    file.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    page = notebook_pages.page(file)
    assert page.title == "A title" and page.pictures == {"07_x_0.png": b"png"}
    for wanted in ("```python\nprint(1)\n```", "```text\n1\n2\n```", "![output](07_x_0.png)", "E: zero"):
        assert wanted in page.text


# ---- the front door


def test_readme_is_two_screens_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 80 and README.count("![") == 1
    for target in re.findall(r"\]\(([^)]+)\)", README):
        path, _, anchor = target.partition("#")
        assert (ROOT / path).exists(), target
        assert not anchor or anchor in anchors((ROOT / path).read_text(encoding="utf-8")), target


def test_readme_states_the_two_commands_where_ci_looks_for_them():
    for mark, wanted in (("main job", "sparchitect explore"), ("test command", "pytest")):
        block = fences(README.split(f"<!-- {mark} -->\n", 1)[1], "bash")[0].splitlines()
        assert block[:2] == ["python3 -m venv .venv", ". .venv/bin/activate"] and block[-1] == wanted


def test_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]
    assert cited["license"] == "Apache-2.0" and cited["authors"] and cited["cff-version"] == "1.2.0"
