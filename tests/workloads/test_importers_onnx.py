"""ONNX files as traces: shapes and MACs by hand, weights' zeros as masks, what is refused and how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sparchitect as sp
from sim.errors import InputError
from sim.trace_tools.reading import read
from sim.trace_tools.validate import violations
from workloads.importers.kinds import ELEMENTWISE, MOVES, POOLS, REDUCTIONS, ROWS, TORCH, VIEWS
from workloads.importers.onnx_nodes import HANDLERS

onnx = pytest.importorskip("onnx")
helper, FLOAT, INT64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
RNG = np.random.default_rng(0)


def weights(*shape: int, density: float = 1.0) -> np.ndarray:
    found = RNG.standard_normal(shape).astype(np.float32)
    return np.where(RNG.random(shape) < density, found, 0).astype(np.float32)


def model(folder: Path, nodes, inputs, outputs, constants=(), opset: int = 20, name: str = "m") -> Path:
    """An ONNX file; inputs and outputs are name -> shape (or (shape, type)), constants name -> array."""

    def info(item):
        label, shape = item
        shape, kind = shape if isinstance(shape, tuple) and isinstance(shape[0], list) else (shape, FLOAT)
        return helper.make_tensor_value_info(label, kind, shape)

    graph = helper.make_graph(
        nodes, name, [info(i) for i in inputs.items()], [info(o) for o in outputs.items()],
        [onnx.numpy_helper.from_array(v, k) for k, v in dict(constants).items()],
    )  # fmt: skip
    path = folder / f"{name}.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(made, path)
    return path


def rows(trace) -> list[dict]:
    assert violations(trace) == []
    return trace.ops.to_dict("records")


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs, outputs, name or outputs[0], **attributes)


def test_pruned_perceptron_by_hand(tmp_path):
    """4 x 32 . 32 x 16 with half of the weights gone, bias and ReLU in one op, then Gemm to 8 outputs."""
    w, v = weights(32, 16, density=0.5), weights(8, 16)
    nodes = [
        node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["s"]), node("Relu", ["s"], ["h"]),
        node("Gemm", ["h", "v", "c"], ["y"], transB=1),
    ]  # fmt: skip
    constants = {"w": w, "b": weights(16), "v": v, "c": weights(8)}
    trace = sp.from_onnx(model(tmp_path, nodes, {"x": [4, 32]}, {"y": [4, 8]}, constants))
    first, fused, second, bias = rows(trace)
    assert [o["name"] for o in (first, fused, second, bias)] == ["p", "s+h", "y", "y.bias"]
    assert (first["m"], first["n"], first["k"], first["nonzeros"]) == (4, 16, 32, np.count_nonzero(w))
    assert trace.masks is not None and len(trace.masks) == 1
    np.testing.assert_array_equal(trace.masks[0], w.T != 0)
    assert fused["alu_ops"] == 2 * 4 * 16 and fused["dram_read_bytes"] == 16
    assert (fused["read_bytes"], fused["write_bytes"]) == (64, 64)
    assert (second["m"], second["n"], second["k"], second["profile"]) == (4, 8, 16, -1)
    assert bias["dram_read_bytes"] == 8 and trace.macs == 4 * 16 * 32 + 4 * 8 * 16
    # alive: x; x and p; p and s+h are the same size, h alone afterwards; y
    assert [(o["live_in_bytes"], o["live_out_bytes"]) for o in rows(trace)] == [(128, 64), (64, 64), (64, 32), (32, 32)]


def test_weights_on_the_left(tmp_path):
    """W (16 x 32) times X (32 x 5): out is 16, the five columns are the rows of activations."""
    path = model(tmp_path, [node("MatMul", ["w", "x"], ["y"])], {"x": [32, 5]}, {"y": [16, 5]}, {"w": weights(16, 32)})
    (op,) = rows(sp.from_onnx(path))
    assert (op["m"], op["n"], op["k"], op["weight_source"]) == (5, 16, 32, "weights")


@pytest.mark.parametrize(
    ("a", "b", "batch", "m", "n", "k"),
    [
        ([2, 3, 4, 8], [2, 3, 8, 5], 6, 4, 5, 8),
        ([2, 3, 4, 8], [2, 1, 8, 5], 2, 12, 5, 8),  # grouped queries: heads are rows
        ([2, 3, 4, 8], [8, 5], 1, 24, 5, 8),
        ([1, 4, 8], [6, 8, 5], 6, 4, 5, 8),
        ([4, 8], [8, 5], 1, 4, 5, 8),
    ],
)
def test_products_of_activations(tmp_path, a, b, batch, m, n, k):
    shape = [*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]]
    path = model(tmp_path, [node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b}, {"y": shape})
    trace = sp.from_onnx(path)
    (op,) = rows(trace)
    assert (op["batch"], op["m"], op["n"], op["k"], op["weight_source"]) == (batch, m, n, k, "activations")
    assert trace.macs == np.prod(shape) * k


@pytest.mark.parametrize(
    ("size", "channels", "kernel", "attributes", "conv"),
    [
        ([2, 3, 9, 8], 6, [3, 3], {}, {}),
        ([1, 3, 9, 8], 6, [3, 2], {"strides": [2, 1], "pads": [1, 0, 1, 0]}, {"stride": (2, 1), "padding": (1, 0)}),
        ([1, 4, 9, 9], 8, [3, 3], {"group": 4, "dilations": [2, 2]}, {"groups": 4, "dilation": 2}),
        ([1, 3, 8, 8], 6, [3, 3], {"auto_pad": "SAME_UPPER"}, {"padding": 1}),
        ([1, 3, 9, 8], 6, [3, 3], {"auto_pad": "VALID"}, {}),
    ],
)
def test_convolutions_are_those_of_the_house(tmp_path, size, channels, kernel, attributes, conv):
    w = weights(channels, size[1] // attributes.get("group", 1), *kernel)
    path = model(
        tmp_path, [node("Conv", ["x", "w"], ["y"], **attributes)], {"x": size}, {"y": [None] * 4}, {"w": w}
    )  # fmt: skip
    (op,) = rows(sp.from_onnx(path))
    wanted = sp.conv2d(size[0], size[1], size[2], size[3], channels, tuple(kernel), **conv).ops.iloc[0]
    for column in ("batch", "m", "n", "k", "input_elements", "live_in_bytes", "live_out_bytes"):
        assert op[column] == wanted[column], column


def test_uneven_padding_and_one_dimension(tmp_path):
    """SAME_UPPER of an even size at stride 2 pads only after: 4 outputs of 8 inputs; a line is an image of height 1."""
    w = weights(4, 2, 3, density=0.6)
    nodes = [node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2])]
    trace = sp.from_onnx(model(tmp_path, nodes, {"x": [1, 2, 8]}, {"y": [1, 4, 4]}, {"w": w}))
    (op,) = rows(trace)
    assert (op["m"], op["n"], op["k"]) == (4, 4, 6) and op["input_elements"] <= 16
    assert trace.masks is not None
    np.testing.assert_array_equal(trace.masks[0], w.reshape(4, 6) != 0)


def encoder(folder: Path, width=32, heads=4, ffn=64, tokens="tokens") -> Path:
    """A pre-norm layer as exporters write it: shapes computed from shapes, transposes of weights."""
    c = {"heads": np.array([heads]), "dim": np.array([width // heads]), "wide": np.array([width])}
    c |= {"zero": np.array([0]), "one": np.array([1]), "scale": np.array(0.35, np.float32)}
    c |= {"gain": weights(width), "shift": weights(width)}
    nodes = [
        node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "zero"], ["b"]),
        node("Gather", ["shape", "one"], ["t"]), node("Concat", ["b", "t", "heads", "dim"], ["split"], axis=0),
        node("Concat", ["b", "t", "wide"], ["whole"], axis=0),
        node("LayerNormalization", ["x", "gain", "shift"], ["n"]),
    ]  # fmt: skip
    for tag in "qkv":
        c[f"w{tag}"] = weights(width, width)
        order = [0, 2, 3, 1] if tag == "k" else [0, 2, 1, 3]
        nodes += [
            node("Transpose", [f"w{tag}"], [f"wt{tag}"], perm=[1, 0]), node("MatMul", ["n", f"wt{tag}"], [f"p{tag}"]),
            node("Reshape", [f"p{tag}", "split"], [f"r{tag}"]), node("Transpose", [f"r{tag}"], [tag], perm=order),
        ]  # fmt: skip
    c |= {"wo": weights(width, width), "w1": weights(width, ffn), "w2": weights(ffn, width)}
    nodes += [
        node("MatMul", ["q", "k"], ["raw"]), node("Mul", ["raw", "scale"], ["scores"]),
        node("Softmax", ["scores"], ["shares"]), node("MatMul", ["shares", "v"], ["mixed"]),
        node("Transpose", ["mixed"], ["back"], perm=[0, 2, 1, 3]), node("Reshape", ["back", "whole"], ["flat"]),
        node("MatMul", ["flat", "wo"], ["o"]), node("Add", ["x", "o"], ["y"]),
        node("LayerNormalization", ["y", "gain", "shift"], ["n2"]), node("MatMul", ["n2", "w1"], ["up"]),
        node("Gelu", ["up"], ["act"]), node("MatMul", ["act", "w2"], ["down"]), node("Add", ["y", "down"], ["z"]),
    ]  # fmt: skip
    return model(folder, nodes, {"x": ["batch", tokens, width]}, {"z": [None, None, width]}, c, name="encoder")


def test_an_encoder_layer(tmp_path):
    """MACs of a layer: b t (4 d^2 + 2 d f) + 2 b t^2 d; sizes flow through shapes computed from shapes."""
    b, t, d, f = 2, 16, 32, 64
    trace = sp.from_onnx(encoder(tmp_path), dims={"batch": b, "tokens": t})
    assert trace.macs == b * t * (4 * d * d + 2 * d * f) + 2 * b * t * t * d
    ops = {o["name"]: o for o in rows(trace)}
    assert (ops["raw"]["batch"], ops["raw"]["m"], ops["raw"]["n"], ops["raw"]["k"]) == (8, t, t, 8)
    assert ops["raw"]["weight_source"] == "activations" and ops["pq"]["weight_source"] == "weights"
    assert "scores+shares" in ops and ops["scores+shares"]["special_function_ops"] == 8 * t * t + 8 * t
    # x waits for the residual addition: alive from the first op to that one
    x = b * t * d
    assert ops["n"]["live_in_bytes"] == x and ops["n"]["live_out_bytes"] == 2 * x
    assert ops["o"]["live_in_bytes"] == 2 * x  # x and the attention's result
    assert all(o["live_in_bytes"] >= x for o in rows(trace))
    assert sp.simulate(sp.accelerator("dense_ws"), trace).cycles > 0


def test_sizes_of_dimensions(tmp_path):
    path = encoder(tmp_path)
    small, large = (sp.from_onnx(path, dims={"batch": 1, "tokens": t}) for t in (8, 16))
    assert large.macs > 2 * small.macs
    with pytest.raises(InputError, match="dimension 'tokens' of input x needs a size"):
        sp.from_onnx(path, dims={"batch": 1})
    with pytest.raises(InputError, match="no input has a dimension 'token', did you mean 'tokens'"):
        sp.from_onnx(path, dims={"batch": 1, "tokens": 2, "token": 3})
    with pytest.raises(InputError, match="'tokens' must be a whole number >= 1, got 0"):
        sp.from_onnx(path, dims={"batch": 1, "tokens": 0})


def test_large_constants_that_are_folded_keep_their_sizes(tmp_path):
    """Shapes go on after a bias that is a copy of another, and after a reshape by the shape of what it made."""
    nodes = [
        node("Identity", ["bias"], ["copy"]), node("MatMul", ["x", "w"], ["p"]), node("Add", ["copy", "p"], ["s"]),
        node("Shape", ["s"], ["shape"]), node("Gather", ["shape", "zero"], ["rows"]),
        node("Concat", ["rows", "two", "half"], ["split"], axis=0), node("Reshape", ["s", "split"], ["r"]),
        node("Softmax", ["r"], ["y"]),
    ]  # fmt: skip
    constants = {"bias": weights(2048), "w": weights(8, 2048), "zero": np.array([0])}
    constants |= {"two": np.array([2]), "half": np.array([1024])}
    path = model(tmp_path, nodes, {"x": ["rows_", 8]}, {"y": [None] * 3}, constants)
    product, rest = rows(sp.from_onnx(path, dims={"rows_": 3}))
    assert (product["m"], product["n"]) == (3, 2048) and rest["special_function_ops"] == 3 * 2048 + 3 * 2


def test_an_encoder_layer_has_the_macs_of_the_house(tmp_path):
    """A BERT layer by its shapes alone (``sp.llm``) and from a graph."""
    path = encoder(tmp_path, width=768, heads=12, ffn=3072)
    ours = sp.llm("bert_base", phase="encode", tokens=32, layers=1, ends=False)
    assert sp.from_onnx(path, dims={"batch": 1, "tokens": 32}).macs == ours.macs


def test_fusing_changes_traffic_not_work(tmp_path):
    path = encoder(tmp_path)
    fused, apart = (sp.from_onnx(path, dims={"batch": 1, "tokens": 8}, fuse=f) for f in (True, False))
    assert len(fused) < len(apart) and fused.macs == apart.macs
    for column in ("alu_ops", "special_function_ops", "dram_read_bytes"):
        assert fused.ops[column].sum() == apart.ops[column].sum()
    assert fused.ops["read_bytes"].sum() < apart.ops["read_bytes"].sum()


@pytest.mark.skipif(onnx.defs.onnx_opset_version() < 23, reason="this onnx does not know the node")
def test_attention_node_is_its_two_products(tmp_path):
    size = {"q": [2, 8, 4, 16], "k": [2, 2, 6, 16], "v": [2, 2, 6, 16]}
    path = model(tmp_path, [node("Attention", ["q", "k", "v"], ["y"])], size, {"y": [2, 8, 4, 16]}, opset=23)
    scores, softmax, values = rows(sp.from_onnx(path))
    assert [(o["batch"], o["m"], o["n"], o["k"]) for o in (scores, values)] == [(4, 16, 6, 16), (4, 16, 16, 6)]
    assert softmax["special_function_ops"] == 2 * 8 * 4 * 6 + 2 * 8 * 4


def test_embedding_reads_its_rows_from_dram(tmp_path):
    nodes = [node("Gather", ["table", "ids"], ["e"]), node("MatMul", ["e", "w"], ["y"])]
    constants = {"table": weights(100, 8), "w": weights(8, 4)}
    path = model(tmp_path, nodes, {"ids": ([1, 5], INT64)}, {"y": [1, 5, 4]}, constants)
    embedding, head = rows(sp.from_onnx(path))
    assert (embedding["dram_read_bytes"], embedding["write_bytes"], embedding["live_in_bytes"]) == (40, 40, 0)
    assert head["m"] == 5


def test_quantised_weights_keep_their_zeros(tmp_path):
    """DequantizeLinear of constants is folded: a zero is a code equal to the zero point."""
    codes = RNG.integers(0, 4, (32, 16)).astype(np.uint8)
    nodes = [node("DequantizeLinear", ["c", "s", "z"], ["w"]), node("MatMul", ["x", "w"], ["y"])]
    constants = {"c": codes, "s": np.array(0.1, np.float32), "z": np.array(2, np.uint8)}
    trace = sp.from_onnx(model(tmp_path, nodes, {"x": [4, 32]}, {"y": [4, 16]}, constants), weight_bits=2)
    (op,) = rows(trace)
    assert (op["nonzeros"], op["weight_bits"], op["activation_bits"]) == (np.count_nonzero(codes != 2), 2, 8)


def test_every_kind_of_node_has_a_handler_and_a_cost():
    from sim.vector_ops import VECTOR_OPS

    for kinds in ELEMENTWISE.values():
        assert set(kinds) <= set(VECTOR_OPS)
    assert {*ROWS.values(), *REDUCTIONS.values(), *POOLS.values()} <= set(VECTOR_OPS)
    known = {*ELEMENTWISE, *ROWS, *REDUCTIONS, *POOLS, *MOVES, *VIEWS}
    assert known <= set(HANDLERS) and set(TORCH.values()) <= known


@pytest.mark.parametrize("op", [o for o in ELEMENTWISE if o not in ("BatchNormalization", "Swish")])
def test_every_elementwise_op_is_read(tmp_path, op):
    count = 3 if op == "Where" else 2
    schema = onnx.defs.get_schema(op, 20, "")
    count = min(count, schema.min_input)
    names = ["flag", "x", "x"] if op == "Where" else ["flag"] * count if op in ("And", "Not", "Or") else ["x"] * count
    inputs = {"x": [4, 8], "given": [4, 8]}
    head = [node("Greater", ["given", "x"], ["flag"])] if "flag" in names else []
    path = model(tmp_path, [*head, node(op, names, ["y"])], inputs, {"y": ([4, 8], _kind(op))})
    found = sp.from_onnx(path, fuse=False).ops.iloc[-1]
    assert found["alu_ops"] + found["special_function_ops"] >= 32 and found["write_bytes"] == 32


def _kind(op: str) -> int:
    boolean = ("And", "Equal", "Greater", "GreaterOrEqual", "IsNaN", "Less", "LessOrEqual", "Not", "Or")
    return onnx.TensorProto.BOOL if op in boolean else FLOAT


def test_unknown_ops_are_listed_or_skipped(tmp_path):
    nodes = [
        node("MatMul", ["x", "w"], ["p"]), node("Det", ["p"], ["d"]), node("Hardmax", ["p"], ["h"]),
        node("Hardmax", ["h"], ["y"]),
    ]  # fmt: skip
    outputs = {"d": [2], "y": [2, 4, 4]}
    path = model(tmp_path, nodes, {"x": [2, 4, 8]}, outputs, {"w": weights(8, 4)})
    with pytest.raises(InputError, match=r"not known: Det \(1\), Hardmax \(2\)"):
        sp.from_onnx(path)
    trace = sp.from_onnx(path, unknown="skip")
    assert trace.meta["skipped_ops"] == {"Det": 1, "Hardmax": 2} and len(rows(trace)) == 1
    with pytest.raises(InputError, match="did you mean 'skip'"):
        sp.from_onnx(path, unknown="skp")


def test_graphs_inside_graphs_are_not_free(tmp_path):
    """An If whose branches read activations from around it has no operand but its condition."""
    branch = [
        helper.make_graph(
            [node("MatMul", ["p", "w"], [out])], out, [], [helper.make_tensor_value_info(out, FLOAT, [2, 4])]
        )
        for out in ("a", "b")
    ]
    nodes = [
        node("MatMul", ["x", "w"], ["p"]),
        node("If", ["flag"], ["y"], then_branch=branch[0], else_branch=branch[1]),
    ]
    inputs = {"x": [2, 4], "flag": ([1], onnx.TensorProto.BOOL)}
    path = model(tmp_path, nodes, inputs, {"y": [2, 4]}, {"w": weights(4, 4)})
    with pytest.raises(InputError, match=r"not known: If \(1\)"):
        sp.from_onnx(path)
    assert sp.from_onnx(path, unknown="skip").meta["skipped_ops"] == {"If": 1}


@pytest.mark.parametrize("content", [b"", b"not onnx at all, not at all", b"\x08" * 300, b"\xff" * 64])
def test_files_that_are_no_models(tmp_path, content):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.onnx") as error:
        sp.from_onnx(path)
    assert "\n" not in str(error.value)


def test_truncated_models(tmp_path):
    path = encoder(tmp_path)
    data = path.read_bytes()
    for i in range(1, 9):
        path.write_bytes(data[: len(data) * i // 9])
        with pytest.raises(InputError, match="encoder"):
            sp.from_onnx(path, dims={"batch": 1, "tokens": 4})


@pytest.mark.parametrize("seed", range(4))
def test_altered_models_are_refused_in_one_line_or_valid(tmp_path, seed):
    """Bytes changed anywhere, names and sizes included: never another error, never a trace that breaks a rule."""
    path = encoder(tmp_path)
    data, rng = path.read_bytes(), np.random.default_rng(seed)
    for _ in range(25):
        changed = bytearray(data)
        for at in (*rng.integers(0, 2500, 2), rng.integers(0, len(data))):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            trace = sp.from_onnx(path, dims={"batch": 1, "tokens": 4})
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert violations(trace) == []


def test_graphs_that_contradict_themselves(tmp_path):
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    path = model(tmp_path, nodes, {"x": [4, 7]}, {"y": [4, 16]}, {"w": weights(32, 16)})
    with pytest.raises(InputError, match=r"m\.onnx.*inputs must be 4 x 32, got 4 x 7"):
        sp.from_onnx(path)
    nodes = [node("Conv", ["x", "w"], ["y"])]
    path = model(tmp_path, nodes, {"x": [1, 3, 8, 8]}, {"y": [1, 4, 6, 6]}, {"w": weights(4, 2, 3, 3)})
    with pytest.raises(InputError, match=r"m\.onnx.*channels must be 2, got 3"):
        sp.from_onnx(path)
    nothing = model(tmp_path, [node("Identity", ["x"], ["y"])], {"x": [4]}, {"y": [4]})
    with pytest.raises(InputError, match="no op that costs anything"):
        sp.from_onnx(nothing)


@pytest.mark.parametrize(("bits", "weight_bits"), [(5, None), (8, 0), (8, 17), (True, None)])
def test_widths_out_of_range(tmp_path, bits, weight_bits):
    with pytest.raises(InputError, match="bits must be"):
        sp.from_onnx(encoder(tmp_path), dims={"batch": 1, "tokens": 4}, bits=bits, weight_bits=weight_bits)


def test_the_same_file_gives_the_same_trace(tmp_path):
    path = encoder(tmp_path)
    for name in ("a", "b"):
        sp.from_onnx(path, dims={"batch": 1, "tokens": 4}).save(tmp_path / name)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert violations(read(tmp_path / "a")) == []
