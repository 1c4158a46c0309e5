"""Ops beyond GEMM: im2col against a brute-force set of pixels, counts by hand, chains that keep their masks."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models import accelerator
from sim.errors import InputError
from sim.operations import (
    ELEMENTWISE,
    REDUCTIONS,
    batched_gemm,
    conv2d,
    depthwise_conv2d,
    elementwise,
    gemv,
    reduction,
    sequence,
)
from sim.simulate import simulate
from sim.trace import Trace, gemm


def brute_force(height, width, kernel, stride, padding, dilation):
    """(output pixels, distinct input pixels), by sliding the kernel over the padded picture until it falls off."""
    pixels, outputs = set(), 0
    starts = [range(-padding[0], height + padding[0]), range(-padding[1], width + padding[1])]
    for y, x in itertools.product(*(r[:: stride[i]] for i, r in enumerate(starts))):
        taps = [(y + i * dilation[0], x + j * dilation[1]) for i in range(kernel[0]) for j in range(kernel[1])]
        if taps[-1][0] >= height + padding[0] or taps[-1][1] >= width + padding[1]:
            continue
        outputs += 1
        pixels |= {(a, b) for a, b in taps if 0 <= a < height and 0 <= b < width}
    return outputs, len(pixels)


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 13), st.integers(1, 13), pairs, pairs, st.tuples(st.integers(0, 3), st.integers(0, 3)), pairs)
def test_im2col_reads_exactly_the_pixels_a_brute_force_walk_touches(height, width, kernel, stride, padding, dilation):
    outputs, pixels = brute_force(height, width, kernel, stride, padding, dilation)
    arguments = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": 3}
    if not outputs:
        with pytest.raises(InputError, match="kernel reaches"):
            conv2d(2, 6, height, width, 9, **arguments)
        return
    op = conv2d(2, 6, height, width, 9, **arguments).ops.iloc[0]
    assert (op["batch"], op["m"], op["n"], op["k"]) == (3, 2 * outputs, 3, 2 * kernel[0] * kernel[1])
    assert op["input_elements"] == 2 * 2 * pixels  # batch x channels of one group


def test_first_layer_of_resnet_50_by_hand():
    trace = conv2d(1, 3, 224, 224, 64, 7, stride=2, padding=3)
    op = trace.ops.iloc[0]
    assert (op["m"], op["k"], op["n"]) == (112 * 112, 147, 64)
    assert op["input_elements"] == op["live_in_bytes"] == 3 * 224 * 224
    assert trace.macs == 118_013_952  # He et al. 2016, conv1


def test_strided_pointwise_convolution_skips_three_pixels_of_four():
    assert conv2d(1, 8, 16, 16, 4, 1, stride=2).ops["input_elements"].iloc[0] == 8 * 64


def test_im2col_in_memory_writes_the_inflated_matrix_and_reads_it_back():
    trace = conv2d(2, 16, 14, 14, 32, 3, padding=1, im2col="in_memory", bits=16)
    unfold, product = trace.ops.iloc[0], trace.ops.iloc[1]
    inflated = 2 * 14 * 14 * 16 * 9
    assert unfold["read_bytes"] == 2 * 16 * 14 * 14 * 2
    assert unfold["write_bytes"] == unfold["live_out_bytes"] == product["live_in_bytes"] == 2 * inflated
    assert unfold["alu_ops"] == inflated and product["input_elements"] == 0
    small = {"memory.shared.capacity_kib": 64, "array.weight_bits": 16, "array.activation_bits": 16}
    machine = accelerator("dense_ws").override(small)
    in_memory = simulate(machine, trace)
    fly = simulate(machine, conv2d(2, 16, 14, 14, 32, 3, padding=1, bits=16))
    assert in_memory.dram_bytes >= fly.dram_bytes + 2 * inflated
    assert in_memory.cycles > fly.cycles


def test_on_the_fly_every_pixel_comes_from_dram_once():
    slow = {"memory.shared.capacity_kib": 4096, "dram.bandwidth_gb_per_s": 0.1}  # so that traffic is what counts
    machine = accelerator("dense_ws").override(slow)
    found = simulate(machine, conv2d(2, 16, 14, 14, 32, 3, padding=1)).dram_bytes
    assert found == 2 * 16 * 14 * 14 + 16 * 9 * 32 + 2 * 32 * 14 * 14


def test_depthwise_wastes_the_array_and_says_so():
    macs = 96 * 28 * 28 * 9
    array, vector = (depthwise_conv2d(1, 96, 28, 28, 3, padding=1, unit=u) for u in ("array", "vector"))
    assert array.macs == macs and vector.ops["alu_ops"].iloc[0] == macs
    assert vector.ops["read_bytes"].iloc[0] == vector.ops["write_bytes"].iloc[0] == 96 * 28 * 28
    assert vector.ops["dram_read_bytes"].iloc[0] == 96 * 9
    machine = accelerator("dense_ws")
    report, full = simulate(machine, array), simulate(machine, conv2d(1, 96, 28, 28, 96, 3, padding=1))
    assert report.utilization <= 9 / (machine.array.rows * machine.array.cols)
    assert full.utilization > 8 * report.utilization
    assert simulate(machine, vector).cycles >= macs / machine.vector.lanes


def test_multiplier_and_grouping_agree_with_conv2d():
    a, b = depthwise_conv2d(2, 8, 9, 9, 3, multiplier=2), conv2d(2, 8, 9, 9, 16, 3, groups=8)
    pd.testing.assert_frame_equal(a.ops, b.ops)


def test_grouped_heads_fetch_their_operand_once():
    alone, grouped = batched_gemm(32, 1, 128, 512), batched_gemm(32, 1, 128, 512, shared_by=4)
    assert alone.macs == grouped.macs == 32 * 128 * 512
    stored = [float((t.ops["batch"] * t.ops["stored_elements"]).sum()) for t in (alone, grouped)]
    assert stored == [32 * 128 * 512, 8 * 128 * 512]
    assert simulate(accelerator("dense_ws"), grouped).cycles < simulate(accelerator("dense_ws"), alone).cycles
    assert grouped.ops["weight_source"].iloc[0] == "activations"


def test_gemv_is_one_row():
    assert gemv(100, 60, sparsity=0.5).ops[["m", "k", "n"]].iloc[0].tolist() == [1, 100, 60]


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise_reads_its_inputs_and_writes_one_tensor(op):
    row = elementwise(op, 1000, bits=16).ops.iloc[0]
    assert row["read_bytes"] + row["dram_read_bytes"] == 2000 * ELEMENTWISE[op]
    assert row["write_bytes"] == 2000 and row["alu_ops"] >= 1000


def test_more_inputs_cost_more():
    assert elementwise("add", 10, inputs=5).ops["alu_ops"].iloc[0] == 40
    assert elementwise("gelu", 10).ops["special_function_ops"].iloc[0] == 20


@pytest.mark.parametrize(("op", "whole_rows"), REDUCTIONS.items())
def test_reductions_write_a_row_or_a_number(op, whole_rows):
    row = reduction(op, 7, 50).ops.iloc[0]
    assert row["read_bytes"] == 350 and row["write_bytes"] == (350 if whole_rows else 7)
    assert row["alu_ops"] >= 350


def test_softmax_by_hand():
    row = reduction("softmax", 4, 10).ops.iloc[0]
    assert (row["alu_ops"], row["special_function_ops"]) == (5 * 40, 40 + 4)


def test_a_sequence_keeps_every_mask_with_its_op(tmp_path):
    rng = np.random.default_rng(1)
    masks = [rng.random((24, 40)) < d for d in (0.2, 0.8)]
    parts = [gemm(4, 40, 24, sparsity=masks[0]), reduction("sum", 3, 5), gemm(4, 40, 24, sparsity=masks[1])]
    trace = sequence(*parts, name="three")
    gemms = trace.ops[trace.ops["kind"] == "gemm"]
    assert gemms["profile"].tolist() == [0, 1] and gemms["nonzeros"].tolist() == [m.sum() for m in masks]
    assert all((a == b).all() for a, b in zip(trace.masks, masks, strict=True))
    machine = accelerator("sparse_lanes").override({"sparsity.barrier_depth": 48})
    alone = sum(simulate(machine, p).table["cycles"].sum() for p in parts)
    assert simulate(machine, trace).table["cycles"].sum() == pytest.approx(alone)
    again = Trace.load(trace.save(tmp_path / "three"))
    pd.testing.assert_frame_equal(again.ops, trace.ops, check_dtype=False)
    nested = sequence(trace, trace)
    assert nested.ops["profile"].max() == 3 and len(nested.profiles) == len(nested.counts) == 4


def test_a_chain_may_keep_tensors_on_chip_and_a_fence_may_not():
    parts = (gemm(64, 64, 64), elementwise("relu", 64 * 64), gemm(64, 64, 64))
    chained, apart = sequence(*parts), sequence(*parts, chained=False)
    assert (chained.ops["name"] == "fence").sum() == 0 and (apart.ops["name"] == "fence").sum() == 2
    machine = accelerator("dense_ws")
    alone = sum(simulate(machine, p).dram_bytes for p in parts)
    assert simulate(machine, apart).dram_bytes == pytest.approx(alone)
    assert simulate(machine, apart, engine="timeline").dram_bytes == pytest.approx(alone)
    assert simulate(machine, chained).dram_bytes == pytest.approx(alone - 4 * 64 * 64)


def test_a_trace_file_from_before_input_elements_still_loads(tmp_path):
    import pyarrow.parquet as pq

    path = gemm(3, 4, 5).save(tmp_path / "old")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["input_elements"]), path)
    assert Trace.load(path).ops["input_elements"].tolist() == [0]
    pq.write_table(table.drop_columns(["m"]), path)
    with pytest.raises(InputError, match="not a version 1 trace"):
        Trace.load(path)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batched_gemm(6, 1, 2, 3, shared_by=4), "shared_by must divide batch 6"),
        (lambda: conv2d(1, 3, 8, 8, 4, 3, groups=2), "groups must divide in_channels 3"),
        (lambda: conv2d(1, 3, 8, 8, 4, 9), "kernel reaches over 9 positions, height"),
        (lambda: conv2d(1, 3, 8, 8, 4, 3, im2col="in_memry"), "did you mean 'in_memory'"),
        (lambda: conv2d(1, 4, 8, 8, 4, 3, groups=4, sparsity=0.5), "sparsity needs groups 1"),
        (lambda: conv2d(1, 3, 8, 8, 4, (3, 3, 3)), "kernel must be one whole number or a pair"),
        (lambda: conv2d(1, 3, 8, 8, 4, 3, stride=0), "stride must be a whole number >= 1"),
        (lambda: elementwise("gelo", 3), "did you mean 'gelu'"),
        (lambda: elementwise("gelu", 3, inputs=2), "inputs of gelu must be 1"),
        (lambda: elementwise("add", 3, inputs=1), "inputs of add must be >= 2"),
        (lambda: elementwise("add", 3, bits=7), "bits must be 4, 8 or 16"),
        (lambda: reduction("sofmax", 3, 3), "did you mean 'softmax'"),
        (lambda: depthwise_conv2d(1, 3, 8, 8, 3, unit="vectr"), "did you mean 'vector'"),
        (lambda: sequence(), "at least one trace"),
        (lambda: gemv(0, 3), "k must be a whole number >= 1"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
