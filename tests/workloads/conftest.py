"""Fixtures: a tiny model on disk, and a cache folder of each test's own (slow tests use the user's real cache)."""

from __future__ import annotations

import pytest
import tiny_llama

from workloads.checkpoint import Checkpoint


@pytest.fixture(autouse=True)
def own_cache(request, tmp_path, monkeypatch):
    """No default test reads or writes the user's cache."""
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setenv("SPARCHITECT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def tiny_weights():
    return tiny_llama.random_weights()


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory, tiny_weights):
    return tiny_llama.write_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf", tiny_weights)


@pytest.fixture
def tiny(tiny_path):
    return Checkpoint(tiny_path)
