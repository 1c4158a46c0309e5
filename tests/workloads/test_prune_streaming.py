"""Pruning layer by layer: the same bytes as with the whole model in memory, and no more of it alive at a time."""

from __future__ import annotations

import os
import re
import weakref
from pathlib import Path

import numpy as np
import pytest
import tiny_llama

from sim.errors import InputError
from workloads import calibration, prune
from workloads.calibration import Diagonal, LayerHessians, Walk, calibrate, collect
from workloads.checkpoint import MATRIX_TYPES, Checkpoint
from workloads.prune import load_masks, prune_model
from workloads.pruned_model import unpacked
from workloads.pruning import ModelMethod, Pruned, PruningMethod, method, methods, parse_pattern
from workloads.pruning.base import NEEDS
from workloads.pruning.wanda import wanda_scores

LAYERS = 6
PATTERNS = {
    "block_diagonal": "diagonal 4",
    "ffn_channels": "ffn 0.25",
    "gqsa": "0.5 1x4",
    "hape": "0.3",
    "heads": "heads 0.25",
    "layers": "layers 0.5",
    "sevedo": "rank 4 + 0.5",
    "tetris": "0.5 4x4",
}
EXTRA = [
    ("wanda", {"sequential": True}),
    ("alps", {"sequential": True, "layers": [1, 3]}),
    ("wanda", {"allocation": "owl"}),
    ("sparsegpt", {"allocation": "sensitivity"}),
    ("sparsegpt_sequential", {"allocation": "energy"}),
    ("magnitude", {"layers": [4], "types": "ffn"}),
]


@pytest.fixture(autouse=True)
def some_windows(monkeypatch):
    """Random token ids instead of text: the tiny model reads no English."""
    rng = np.random.default_rng(0)
    texts = rng.integers(0, tiny_llama.VOCAB, (4, 24)), rng.integers(0, tiny_llama.VOCAB, (2, 16))
    monkeypatch.setattr(prune, "_calibration_windows", lambda checkpoint, tokens, seed: texts[0])
    monkeypatch.setattr(prune, "_evaluation_windows", lambda checkpoint: texts[1])
    return texts


def write(folder, layers: int):
    """The tiny model with more layers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_llama, "LAYERS", layers)
        tensors = tiny_llama.hf_tensors(tiny_llama.random_weights())
        return tiny_llama.write_hf(folder / f"tiny{layers}", tensors)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return write(tmp_path_factory.mktemp("models"), LAYERS)


@pytest.fixture
def large(monkeypatch):
    """Every model counts as too large for its Hessians to be held."""
    return lambda: monkeypatch.setattr(calibration, "HELD_BYTES", 0)


@pytest.mark.parametrize(
    ("name", "more"), [*((name, {}) for name in methods()), *EXTRA], ids=lambda x: x if isinstance(x, str) else str(x)
)
def test_streamed_is_whole(deep, large, name, more):
    """Masks, weights, and the measured perplexity of pruning while the model runs."""
    pattern = PATTERNS.get(name, "0.5")
    whole = prune_model(deep, name, pattern, evaluate=True, **more)
    large()
    seen: dict[tuple[int, str], Pruned] = {}
    streamed = prune_model(deep, name, pattern, evaluate=True, keep="masks", on_matrix=seen.__setitem__, **more)
    assert seen.keys() == whole.details.keys() == streamed.masks.keys() and seen
    for key, one in seen.items():
        assert one.weight.tobytes() == whole.weights[key].tobytes(), key
        assert one.mask.tobytes() == whole.masks[key].tobytes() == unpacked(streamed.masks[key]).tobytes(), key
    assert streamed.weights == {} and streamed.details == {}
    assert streamed.realised_sparsity == whole.realised_sparsity > 0
    assert streamed.perplexity.window_nll == whole.perplexity.window_nll
    assert streamed.perplexity.realised_sparsity == whole.realised_sparsity
    assert streamed.dense_perplexity.window_nll == whole.dense_perplexity.window_nll
    assert streamed.provenance == whole.provenance


@pytest.mark.parametrize("evaluate", [False, True])
@pytest.mark.parametrize(("name", "stage"), [("wanda", 1), ("sparsegpt_sequential", 1), ("heads", 1), ("hape", 5)])
def test_matrices_alive_do_not_grow_with_the_model(tmp_path, large, name, stage, evaluate):
    """At most one stage of pruned matrices is alive, and no checkpoint keeps more than the layer at hand."""
    large()
    most = {}
    for layers in (LAYERS, 2 * LAYERS):
        path, alive, counts = write(tmp_path, layers), set(), []

        def seen(key, pruned, alive=alive, counts=counts):
            alive.add(key)
            weakref.finalize(pruned.weight, alive.discard, key)
            counts.append(len(alive))

        prune_model(
            path,
            name,
            PATTERNS.get(name, "0.5"),
            evaluate=evaluate,
            keep="nothing",
            on_matrix=seen,
            calibration_tokens=512,
        )
        assert not alive
        most[layers] = max(counts)
    assert most[LAYERS] == most[2 * LAYERS] <= stage * len(MATRIX_TYPES)


def test_a_large_checkpoint_keeps_no_layer_that_is_done(deep, large, monkeypatch):
    large()
    held = []
    opened = Checkpoint(deep)
    monkeypatch.setattr(prune, "open_checkpoint", lambda path: opened)
    prune_model(deep, "wanda", "0.5", keep="nothing", on_matrix=lambda *_: held.append({k[0] for k in opened._kept}))
    assert max(map(len, held)) == 1


def test_what_is_kept(deep, tmp_path):
    nothing = prune_model(deep, "magnitude", "0.25", keep="nothing")
    assert nothing.masks == {} and nothing.realised_sparsity == pytest.approx(0.25, abs=0.01)
    bits, whole = (prune_model(deep, "magnitude", "0.25", keep=keep) for keep in ("masks", "all"))
    assert sum(mask.words.nbytes for mask in bits.masks.values()) < sum(mask.nbytes for mask in whole.masks.values())
    stored, about = load_masks(bits.save(tmp_path / "bits.npz"))
    assert about == whole.provenance and stored.keys() == whole.masks.keys()
    assert all(np.array_equal(stored[key], whole.masks[key]) for key in stored)
    with pytest.raises(InputError, match="keep 'mask' is unknown: did you mean 'masks'"):
        prune_model(deep, "magnitude", keep="mask")


def test_methods_say_what_they_need():
    assert {method(name).needs for name in methods()} == set(NEEDS)
    assert [name for name in methods() if method(name).needs == "nothing"] == ["magnitude"]
    page = (Path(__file__).parents[2] / "docs" / "pruning.md").read_text(encoding="utf-8")
    listed = page.partition("the diagonal of every Hessian\n")[2].partition("), or all of it")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == {name for name in methods() if method(name).needs == "diagonal"}
    whole = page.partition("or all of it.")[2].partition("compare or fit all layers")[0].rpartition("\n\n")[2]
    competing = {n for n in methods(ModelMethod) if not method(n).stage and method(n).needs != "influence"}
    assert set(re.findall(r"`(\w+)`", whole)) == competing


@pytest.mark.parametrize("name", [n for n in methods(PruningMethod) if method(n).needs == "diagonal"])
def test_who_needs_the_diagonal_looks_at_nothing_else(name):
    chosen = method(name)
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(16, 32)).astype(np.float32), rng.normal(size=(64, 32)).astype(np.float32)
    rule = chosen.read(parse_pattern(PATTERNS.get(name, "0.5")))
    whole, alone = (chosen.prune(weight, h, 64, rule) for h in (x.T @ x, Diagonal(np.diagonal(x.T @ x))))
    assert whole.weight.tobytes() == alone.weight.tobytes()


def test_a_diagonal_is_nothing_else():
    values = np.arange(1.0, 5.0, dtype=np.float32)
    diagonal, weight = Diagonal(values), np.ones((2, 4), np.float32)
    assert np.diagonal(diagonal) is values and diagonal.shape == (4, 4)
    np.testing.assert_array_equal(wanda_scores(weight, diagonal, 4), wanda_scores(weight, np.diag(values), 4))
    for misuse in (
        lambda: weight @ diagonal,
        lambda: np.linalg.eigh(diagonal),
        lambda: np.array(diagonal, dtype=float),
        lambda: diagonal[0, 1],
        lambda: np.diagonal(diagonal, 1),
    ):
        with pytest.raises(TypeError):
            misuse()


def test_diagonals_are_those_of_the_hessians(deep, some_windows):
    checkpoint = Checkpoint(deep)
    whole, alone = (collect(checkpoint, some_windows[0], diagonal=flag) for flag in (False, True))
    for name, hessians in whole.hessians.items():
        for one, other in zip(hessians, alone.hessians[name], strict=True):
            assert np.diagonal(one).tobytes() == np.diagonal(other).tobytes()
    assert alone.mean_square(3, "ffn_down").tobytes() == whole.mean_square(3, "ffn_down").tobytes()


def test_diagonal_of_a_wide_tensor_in_columns():
    """More features than are multiplied at once."""
    x = np.random.default_rng(0).normal(size=(40, 2500)).astype(np.float32)
    total = np.ones(2500, np.float32)
    calibration._add(total, x)
    np.testing.assert_allclose(total, 1 + np.square(x.astype(float)).sum(axis=0), rtol=1e-5)


def test_stored_diagonals_spare_the_forward_pass(deep, some_windows, monkeypatch):
    checkpoint = Checkpoint(deep)
    first = calibrate(checkpoint, some_windows[0], diagonal=True)
    monkeypatch.setattr(calibration, "token_nll", lambda *_, **__: pytest.fail("ran again"))
    again = calibrate(checkpoint, some_windows[0], diagonal=True)
    for name, found in first.hessians.items():
        assert all(np.array_equal(a.values, b.values) for a, b in zip(found, again.hessians[name], strict=True))


def test_layer_hessians_in_any_order(deep, some_windows, monkeypatch):
    """Those of one pass, and layers in order cost one pass: every layer is run once."""
    checkpoint = Checkpoint(deep)
    gathered, runs = collect(checkpoint, some_windows[0]), []
    run = Walk._run
    monkeypatch.setattr(Walk, "_run", lambda walk, *rest: (runs.append(walk.layer), run(walk, *rest))[1])
    hessians = LayerHessians(checkpoint, some_windows[0], held=2)
    for layer in (0, 1, 3, 5):
        for t in MATRIX_TYPES:
            assert np.array_equal(hessians(layer, t), gathered.hessian(layer, t))
    assert runs == [0, 1, 2, 3, 4, 5]
    assert hessians(3, "attn_q") is hessians(3, "attn_k") and len(runs) == LAYERS  # held
    assert np.array_equal(hessians(1, "ffn_up"), gathered.hessian(1, "ffn_up"))
    assert runs == [0, 1, 2, 3, 4, 5, 0, 1]


@pytest.mark.skipif("SC_PHYS_PAGES" not in os.sysconf_names, reason="memory is not known here")
def test_what_cannot_fit_is_refused_before_it_begins(deep, monkeypatch):
    """Methods whose layers compete hold the pruned model; the others do not."""
    real = os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: 1 if name == "SC_PHYS_PAGES" else real(name))
    monkeypatch.setattr(calibration, "token_nll", lambda *_, **__: pytest.fail("calibrated"))
    with pytest.raises(InputError, match=r"heapr holds the whole pruned model: at least .* GB, this machine has"):
        prune_model(deep, "heapr", "ffn 0.25", keep="masks")
    assert prune_model(deep, "magnitude", "0.5", keep="masks").masks


def test_own_windows(deep, some_windows):
    """Texts given are the texts used."""
    mine = np.random.default_rng(5).integers(0, tiny_llama.VOCAB, (2, 10))
    pruned = prune_model(deep, "wanda", "0.5", evaluate=True, windows=mine, evaluation=mine)
    assert pruned.provenance["calibration_tokens"] == 20 and pruned.perplexity.tokens == 18
    assert pruned.provenance["calibration_sha256"] == calibration.windows_sha256(mine)


def test_the_model_has_a_name_wherever_it_is_opened(deep, monkeypatch):
    monkeypatch.chdir(deep)
    assert prune_model(".", "magnitude").provenance["model"] == deep.name
