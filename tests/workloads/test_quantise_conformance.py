"""One suite that every quantiser runs: round trips, exact bits, masks, zeros, scaling, determinism, error order."""

from __future__ import annotations

import numpy as np
import pytest

from sim.errors import InputError
from workloads.quantise import quantiser, quantisers
from workloads.quantise.base import Quantised

OUT, IN, TOKENS = 24, 200, 400
LABELS = (
    "rtn",
    "rtn:bits=2,group=32",
    "rtn:bits=3,group=None,symmetric=False",
    "rtn:bits=8,group=48,symmetric=False",
    "awq:group=64",
    "awq:bits=3,folded=False,symmetric=False",
    "gwq",
    "gwq:bits=2,group=32,outliers=0.05",
    "gptq:group=64",
    "gptq:bits=3,group=None,symmetric=False",
    "mx",
    "mx:element=e2m3",
    "mx:element=e3m2",
    "mx:element=e4m3",
    "mx:element=e5m2",
    "mx:element=int4",
    "mx:element=int8",
    "bfp",
    "bfp:bits=6",
    "nvfp4",
    "bitmod",
    "bitmod:bits=3,group=64",
    "ternary",
    "ternary:group=None",
    "ternary:packed=True",
)
every = pytest.mark.parametrize("label", LABELS)


def problem(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A weight matrix and the Hessian of correlated activations whose inputs differ in size, as those of LLMs do."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0, 0.05, (OUT, IN))
    x = rng.normal(size=(TOKENS, IN)) @ (np.eye(IN) + 1.2 * rng.normal(size=(IN, IN)) / np.sqrt(IN))
    x *= rng.lognormal(0, 1, IN)
    return weight.astype(np.float32), (x.T @ x).astype(np.float32)


def run(label: str, weight: np.ndarray, hessian: np.ndarray | None = None, mask: np.ndarray | None = None) -> Quantised:
    hessian = np.eye(weight.shape[1], dtype=np.float32) if hessian is None else hessian
    return quantiser(label).quantise(weight, hessian, TOKENS, mask)


def random_mask(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((OUT, IN)) < 0.5


def output_error(weight: np.ndarray, values: np.ndarray, hessian: np.ndarray) -> float:
    """‖X (W − Ŵ)ᵀ‖² on the calibration data."""
    gone = (weight - values).astype(np.float64)
    return float(np.einsum("oi,ij,oj->", gone, hessian.astype(np.float64), gone))


def test_every_quantiser_is_here():
    assert {quantiser(label).name for label in LABELS} == set(quantisers())


@every
@pytest.mark.parametrize("masked", [False, True])
def test_bits_round_trip(label, masked):
    """Streams packed to bytes and read back stand for the same matrix, and take the bytes that they say."""
    weight, hessian = problem()
    found = run(label, weight, hessian, random_mask() if masked else None)
    streams = {name: stream.unpacked(stream.packed()) for name, stream in found.streams.items()}
    again = Quantised(found.method, found.mask, streams)
    assert again.values.tobytes() == found.values.tobytes() and found.values.dtype == np.float32
    held = sum(len(s.packed()) for name, s in streams.items() if not name.startswith("folded"))
    assert 0 <= 8 * held - found.stored.total < 8 * len(streams)


@every
@pytest.mark.parametrize("shape", [(OUT, IN), (5, 96), (3, 1), (1, 33)])
def test_storage_without_weights_is_exact(label, shape):
    rng = np.random.default_rng(3)
    weight, mask = rng.normal(size=shape).astype(np.float32), rng.random(shape) < 0.6
    for kept in (mask, None):
        found = run(label, weight, mask=kept)
        assert found.stored == found.method.storage(*shape, None if kept is None else int(mask.sum()))
        assert found.stored.values == found.method.value_bits(int(found.mask.sum()))
        assert found.values.shape == shape and np.isfinite(found.values).all()


@every
def test_mask_is_respected(label):
    """Pruned weights are exactly zero, and nothing depends on what they were, unless the method makes up for them."""
    weight, hessian = problem()
    mask = random_mask()
    other = np.where(mask, weight, np.float32(9))
    same = run(label, other, hessian, mask).values.tobytes() == run(label, weight, hessian, mask).values.tobytes()
    assert same is not quantiser(label).compensates
    kept = weight * mask
    found = run(label, kept, hessian, mask)
    assert np.all(found.values[~mask] == 0) and np.all(run(label, other, hessian, mask).values[~mask] == 0)
    assert output_error(kept, found.values, hessian) < 0.5 * output_error(kept, 0 * kept, hessian)


@every
def test_nothing_kept_is_zero(label):
    weight, hessian = problem()
    assert not run(label, weight, hessian, np.zeros_like(weight, bool)).values.any()


@every
def test_zero_rows_and_columns(label):
    weight, hessian = problem()
    weight[3] = 0
    found = run(label, weight, hessian)
    assert not found.values[3].any() and np.isfinite(found.values).all()
    assert not run(label, np.zeros_like(weight), hessian).values.any()
    hessian[:, 7] = hessian[7] = 0  # an input that is never used
    assert np.isfinite(run(label, weight, hessian).values).all()


@every
def test_constant_rows(label):
    """One value in a row is kept but for rounding of its scale (a power of two, so that shared exponents hold it)."""
    weight = np.repeat(np.array([[0.25], [-0.5]], np.float32), IN, axis=1)
    np.testing.assert_allclose(run(label, weight).values, weight, rtol=2e-3)


@every
def test_deterministic_and_leaves_its_input_alone(label):
    weight, hessian = problem()
    mask = random_mask()
    before = weight.copy(), hessian.copy(), mask.copy()
    one = run(label, weight, hessian, mask)
    two = run(label, weight.copy(), hessian.copy(), mask.copy())
    assert all(np.array_equal(one.streams[name].numbers, two.streams[name].numbers) for name in one.streams)
    for given, copy in zip((weight, hessian, mask), before, strict=True):
        np.testing.assert_array_equal(given, copy)


@every
def test_scaling_by_a_power_of_two(label):
    weight, hessian = problem()
    values = run(label, weight, hessian).values
    np.testing.assert_array_equal(run(label, weight * 8, hessian).values, values * 8)


@every
def test_sign_and_row_order_do_not_matter(label):
    weight, hessian = problem()
    values = run(label, weight, hessian).values
    order = np.random.default_rng(0).permutation(OUT)
    np.testing.assert_allclose(run(label, weight[order], hessian).values, values[order], rtol=1e-5, atol=1e-6)
    if "symmetric=False" not in label:
        np.testing.assert_array_equal(run(label, -weight, hessian).values, -values)


@pytest.mark.parametrize("label", [x for x in LABELS if x.split(":")[0] not in ("awq", "gwq", "gptq", "nvfp4")])
def test_an_outlier_harms_its_own_block_only(label):
    weight, _ = problem()
    values = run(label, weight).values
    block = quantiser(label).block(IN)
    hurt = weight.copy()
    hurt[2, 0] = 40
    changed = run(label, hurt).values
    elsewhere = np.ones(weight.shape, bool)
    elsewhere[2, :block] = False
    np.testing.assert_array_equal(changed[elsewhere], values[elsewhere])
    if not label.startswith("ternary"):
        assert changed[2, 0] == pytest.approx(40, rel=0.2)


@pytest.mark.parametrize("label", [x for x in LABELS if x.split(":")[0] not in ("awq", "gwq", "gptq", "nvfp4")])
def test_blocks_are_independent(label):
    """A row is what its blocks are apart, the short last one too."""
    weight, _ = problem()
    block = quantiser(label).block(IN)
    parts = [run(label, weight[:, start : start + block]).values for start in range(0, IN, block)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), run(label, weight).values)


def relative_error(label: str, masked: bool = False, seed: int = 0) -> float:
    weight, hessian = problem(seed)
    mask = random_mask() if masked else np.ones(weight.shape, bool)
    kept = weight * mask
    return float(np.square(run(label, weight, hessian, mask).values - kept).sum() / np.square(kept).sum())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "labels",
    [
        [f"rtn:bits={b}" for b in range(2, 9)],
        [f"rtn:bits={b},symmetric=False,group=32" for b in range(2, 9)],
        [f"bfp:bits={b}" for b in range(2, 9)],
        [f"mx:element=int{b}" for b in range(2, 9)],
        ["mx:element=e2m1", "mx:element=e2m3"],
        ["mx:element=e3m2", "mx:element=e4m3"],
        ["bitmod:bits=3", "bitmod:bits=4"],
        [f"gwq:bits={b}" for b in (2, 3, 4, 6, 8)],
    ],
)
def test_more_bits_less_error(labels, masked):
    errors = [relative_error(label, masked) for label in labels]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.75 * errors[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_smaller_groups_less_error(seed):
    for kind in ("rtn:bits=4,group={}", "rtn:bits=3,symmetric=False,group={}", "bitmod:bits=4,group={}"):
        errors = [relative_error(kind.format(group), seed=seed) for group in (200, 100, 50, 25)]
        assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", ["bits=2", "bits=3", "bits=4,group=None", "bits=4,group=32,symmetric=False"])
def test_calibrated_methods_are_no_worse_than_rounding(options, masked, seed):
    """AWQ, GWQ and GPTQ against RTN of the same bits: the output error on the data they were calibrated with.

    Not GPTQ at two symmetric bits (three levels): its updates push weights beyond the ends, where they are clipped.
    """
    weight, hessian = problem(seed)
    mask = random_mask(seed) if masked else np.ones(weight.shape, bool)
    kept = weight * mask
    error = {
        name: output_error(kept, run(f"{name}:{options}", kept, hessian, mask).values, hessian)
        for name in ("rtn", "awq", "gwq", "gptq")
    }
    assert error["awq"] <= error["rtn"] * (1 + 1e-6)
    assert error["gwq"] < error["rtn"]
    if options != "bits=2":
        assert error["gptq"] < error["rtn"]
    assert relative_error(f"gwq:{options}", masked, seed) < relative_error(f"rtn:{options}", masked, seed)


@pytest.mark.parametrize("bad", [np.zeros(4), np.zeros((0, 4)), np.array([[1.0, np.nan]]), np.array([[np.inf]])])
def test_bad_weights(bad):
    with pytest.raises(InputError, match="rtn: weight must be a finite matrix out x in"):
        quantiser("rtn").quantise(bad)


def test_bad_mask_and_missing_calibration():
    with pytest.raises(InputError, match=r"mask must be out x in = \(2, 3\), got \(3, 2\)"):
        quantiser("rtn").quantise(np.ones((2, 3)), mask=np.ones((3, 2), bool))
    for name in ("awq", "gwq", "gptq"):
        with pytest.raises(InputError, match=f"{name} needs calibration: hessian \\[3, 3\\]"):
            quantiser(name).quantise(np.ones((2, 3)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rtm", "quantiser 'rtm' is unknown: did you mean 'rtn'"),
        ("rtn:bit=4", "rtn has no option 'bit': did you mean 'bits'"),
        ("rtn:bits=9", "bits must be an integer from 2 to 8, got 9"),
        ("rtn:bits=4.5", "bits must be an integer from 2 to 8, got 4.5"),
        ("rtn:group=0", "group must be an integer >= 1, got 0"),
        ("rtn:symmetric=maybe", "symmetric must be True or False, got 'maybe'"),
        ("gwq:outliers=1", "outliers must be a share from 0 to below 1, got 1"),
        ("mx:element=e2m4", "element 'e2m4' is unknown: did you mean '"),
        ("bitmod:bits=5", "bits must be an integer from 3 to 4, got 5"),
        ("ternary:group=-1", "group must be an integer >= 1, got -1"),
        ("ternary:packed=1", "packed must be True or False, got 1"),
    ],
)
def test_wrong_labels_say_what_is_right(text, message):
    with pytest.raises(InputError, match=message):
        quantiser(text)


@every
def test_labels_read_back(label):
    assert quantiser(quantiser(label).label) == quantiser(label)
