"""Folders of tests are named like packages: with tests/ on the path, the packages are still the ones imported."""

from importlib.machinery import PathFinder
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["sim", "validation", "dse", "workloads", "sparchitect"])
def test_a_folder_of_tests_does_not_pass_for_the_package(name, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    found = PathFinder.find_spec(name)
    assert found is not None and found.origin is not None, "a folder without __init__.py: tests/ shadows the package"
    assert Path(found.origin).parts[-2:] == (name, "__init__.py")
