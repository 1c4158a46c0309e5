"""``docs/models.md`` holds the zoo as it is, and its examples run. Refresh: run this file as a script."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import sparchitect as sp
from workloads.zoo import names
from workloads.zoo.table import HEADER, markdown

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
START = f"| {' | '.join(HEADER)} |\n"


def parts():
    text = PAGE.read_text(encoding="utf-8")
    before, _, after = text.partition(START)
    return before, START + after


def examples():
    return re.findall(r"`(sp\.llm\(.*?\))`", parts()[0])


def test_the_table_is_current():
    assert parts()[1] == markdown()


def test_every_model_is_in_it():
    assert all(f"`{name}`" in parts()[1] for name in names())


@pytest.mark.parametrize("example", examples())
def test_examples_run(example):
    trace = eval(example.removesuffix(")") + ", layers=1)", {"sp": sp})
    assert len(trace) > 0 and trace.ops["name"].is_unique


def test_there_is_an_example_of_every_phase():
    from workloads.phases import PHASES

    assert all(any(f'"{phase}"' in example for example in examples()) for phase in PHASES)


if __name__ == "__main__":
    PAGE.write_text(parts()[0] + markdown(), encoding="utf-8")
