"""ONNX import: light models, shape arithmetic, names, and what bad input gets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tests import light_models

from tapdot.compiler.errors import ModelError
from tapdot.compiler.frontends.onnx import import_onnx
from tapdot.compiler.graph import Graph
from tapdot.compiler.interpreter import interpret


def run(graph: Graph, **inputs: np.ndarray) -> list[np.ndarray]:
    """The graph's outputs by the interpreter."""
    with torch.no_grad():
        results = interpret(graph, {name: torch.from_numpy(array) for name, array in inputs.items()})
    return [results[name].numpy() for name in graph.outputs]


def model_of(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[Any] | None],
    outputs: list[str],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 18,
    dtype: int = TensorProto.FLOAT,
    **fields: Any,
) -> onnx.ModelProto:
    """A model of those nodes, with untyped outputs."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=fields.pop("opsets", [helper.make_opsetid("", opset)]), ir_version=8, **fields)


def relu_model(shape: list[Any] | None, **fields: Any) -> onnx.ModelProto:
    return model_of([helper.make_node("Relu", ["x"], ["y"], "relu")], {"x": shape}, ["y"], **fields)


# -- the light models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", light_models.NAMES)
def test_light_model_gives_its_shipped_output(name: str) -> None:
    graph = import_onnx(light_models.path(name))
    (value,) = graph.inputs
    (found,) = run(graph, **{value: light_models.shipped_input(onnx.load(light_models.path(name)))})
    np.testing.assert_allclose(found, light_models.shipped_output(name), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in light_models.NAMES if name not in ("bvlc_alexnet", "vgg19", "zfnet512")])
def test_randomised_light_model_matches_onnxruntime(name: str) -> None:
    """Those with large fully connected layers are left to one test below: they differ from these in size alone."""
    compare_with_onnxruntime(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bvlc_alexnet", "vgg19", "zfnet512"])
def test_large_randomised_light_model_matches_onnxruntime(name: str, request: pytest.FixtureRequest) -> None:
    if name != "bvlc_alexnet" and not request.config.getoption("--soak"):
        pytest.skip("the network has nothing but size of its own; runs with --soak")
    compare_with_onnxruntime(name)


def compare_with_onnxruntime(name: str) -> None:
    model = light_models.randomised(name)
    graph = import_onnx(model)
    (value,) = graph.inputs
    x = np.random.default_rng(0).standard_normal(graph.type(value).shape, np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    (expected,) = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {value: x})
    (found,) = run(graph, **{value: x})
    assert expected.std() > 1e-3, "The random weights leave nothing to compare."
    assert np.abs(found - expected).max() <= 1e-3 * (expected.max() - expected.min())


# -- what import does ----------------------------------------------------------------------------------------------------------


def test_names_stay() -> None:
    graph = import_onnx(light_models.path("resnet50"))
    assert graph.inputs == ("gpu_0/data_0",)
    assert graph.outputs == ("gpu_0/softmax_1",)
    assert "gpu_0/conv1_w_0" in graph.constants


def test_shape_arithmetic_becomes_constants() -> None:
    """The usual export of ``x.view(x.shape[0], -1)``."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axis"], ["batch1"]),
        helper.make_node("Constant", [], ["rest"], value_ints=[-1]),
        helper.make_node("Concat", ["batch1", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    weights = {"zero": np.array(0), "axis": np.array([0])}
    graph = import_onnx(model_of(nodes, {"x": [2, 3, 4]}, ["y"], weights))
    assert [node.op for node in graph.nodes] == ["Reshape"]
    assert graph.type("y").shape == (2, 12)


def test_a_known_if_is_replaced_by_its_branch() -> None:
    branches = {}
    for name, op in (("then_branch", "Relu"), ("else_branch", "Neg")):
        node = helper.make_node(op, ["x"], ["inner"])
        branches[name] = helper.make_graph([node], name, [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "one"], ["size"]),
        helper.make_node("Equal", ["size", "three"], ["is_three"]),
        helper.make_node("If", ["is_three"], ["y"], **branches),
        helper.make_node("Abs", ["y"], ["z"]),
    ]
    weights = {"one": np.array(1), "three": np.array(3)}
    for size, op in ((3, "Relu"), (4, "Neg")):
        graph = import_onnx(model_of(nodes, {"x": [2, size]}, ["z"], weights))
        assert [node.op for node in graph.nodes] == [op, "Abs"]


def test_an_if_that_depends_on_data_is_refused() -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], "choose", then_branch=branch, else_branch=branch),
    ]
    with pytest.raises(ModelError, match="If node 'choose' decides at run time"):
        import_onnx(model_of(nodes, {"x": [3]}, ["y"], {"zero": np.array(0, np.float32)}))


def test_local_functions_are_inlined() -> None:
    function = helper.make_function(
        "mine",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    model = model_of(
        [helper.make_node("Twice", ["x"], ["y"], domain="mine")],
        {"x": [3]},
        ["y"],
        functions=[function],
        opsets=[helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)],
    )
    graph = import_onnx(model)
    assert [node.op for node in graph.nodes] == ["Add"]


def test_external_data(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((8, 4, 3, 3), np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    model = model_of(nodes, {"x": [1, 4, 6, 6]}, ["y"], {"w": weight})
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.data", size_threshold=0)
    graph = import_onnx(path)
    np.testing.assert_array_equal(graph.constants["w"], weight)

    data = (tmp_path / "model.data").read_bytes()
    (tmp_path / "model.data").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match=r"initializer 'w' .*cannot be read from the external data file 'model.data'"):
        import_onnx(path)
    (tmp_path / "model.data").unlink()
    with pytest.raises(ModelError, match=r"external data file 'model.data' beside the model"):
        import_onnx(path)


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    model = model_of(
        [helper.make_node("Conv", ["x", "w"], ["y"])], {"x": [1, 4, 6, 6]}, ["y"], {"w": np.ones((8, 4, 3, 3), np.float32)}
    )
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "../secret.data")
    tensor.ClearField("raw_data")
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.data").write_bytes(bytes(8 * 4 * 9 * 4))
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="cannot be read from the external data file"):
        import_onnx(folder / "model.onnx")


def test_results_nobody_names_and_omitted_operands() -> None:
    nodes = [
        helper.make_node("Clip", ["x", "", "most"], ["a"]),
        helper.make_node("Dropout", ["a"], ["y", ""]),
    ]
    graph = import_onnx(model_of(nodes, {"x": [4]}, ["y"], {"most": np.array(1, np.float32)}))
    (found,) = run(graph, x=np.array([-2, 0.5, 1, 3], np.float32))
    np.testing.assert_array_equal(found, [-2, 0.5, 1, 1])


def test_where_a_maximum_stood_is_refused_by_name_where_it_is_read() -> None:
    nodes = [helper.make_node("MaxPool", ["x"], ["y", "where"], kernel_shape=[2, 2], name="pool")]
    with pytest.raises(ModelError, match=r"MaxPool node 'pool' also tells where each maximum stood .* without return_indices"):
        import_onnx(model_of(nodes, {"x": [1, 1, 4, 4]}, ["y", "where"]))
    (node,) = import_onnx(model_of(nodes, {"x": [1, 1, 4, 4]}, ["y"])).nodes
    assert node.outputs == ("y",)


# -- shapes --------------------------------------------------------------------------------------------------------------------


def test_an_open_batch_becomes_one_and_a_note_says_so() -> None:
    graph = import_onnx(relu_model(["N", 3, 8, 8]))
    assert graph.type("x").shape == (1, 3, 8, 8)
    (note,) = graph.notes
    assert "'x' has an open batch dimension, which became 1" in note
    assert "--shape x=N,3,8,8" in note
    assert import_onnx(relu_model([1, 3, 8, 8])).notes == ()


def test_other_open_dimensions_must_be_given() -> None:
    with pytest.raises(ModelError, match=r"Input 'x' has the shape \[N, 3, H, W\].*--shape x=N,3,N,N"):
        import_onnx(relu_model(["N", 3, "H", "W"]))
    graph = import_onnx(relu_model(["N", 3, "H", "W"]), shapes={"x": (2, 3, 5, 7)})
    assert graph.type("y").shape == (2, 3, 5, 7)


def test_a_dimension_given_for_one_input_holds_for_the_other() -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    graph = import_onnx(model_of(nodes, {"a": ["N", "K"], "b": ["N", "K"]}, ["y"]), shapes={"a": (2, 5)})
    assert graph.type("b").shape == (2, 5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"x": (1, 4, 8, 8)}, "does not fit its declared shape"),
        ({"x": (1, 3, 8)}, "does not fit its declared shape"),
        ({"x": (0, 3, 8, 8)}, "positive sizes"),
        ({"image": (1, 3, 8, 8)}, "'image', which is no input of the model; its inputs are 'x'"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_onnx(relu_model(["N", 3, 8, 8]), shapes=shapes)


def test_an_input_without_shape_must_be_given_one() -> None:
    with pytest.raises(ModelError, match="declares no shape"):
        import_onnx(relu_model(None))


# -- bad input -----------------------------------------------------------------------------------------------------------------


def test_files_that_are_no_model(tmp_path: Path) -> None:
    whole = light_models.path("squeezenet").read_bytes()
    contents = {
        "empty.onnx": b"",
        "text.onnx": b"This is a text file, and no model at all.\n" * 20,
        "truncated.onnx": whole[: len(whole) // 2],
        "cut_tail.onnx": whole[:-40],
        "zeros.onnx": bytes(1000),
        "image.onnx": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4,
    }
    for name, data in contents.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"Expected an ONNX model|has \d+ problems|Cannot import"):
            import_onnx(path)
    with pytest.raises(ModelError, match="found nothing there"):
        import_onnx(tmp_path / "missing.onnx")
    with pytest.raises(ModelError, match="found a folder"):
        import_onnx(tmp_path)


def test_every_truncation_is_refused_in_words(tmp_path: Path) -> None:
    """Wherever a file is cut: never a traceback, never a wrong graph."""
    weight = np.random.default_rng(0).standard_normal((4, 2, 3, 3), np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    whole = model_of(nodes, {"x": [1, 2, 6, 6]}, ["y"], {"w": weight}).SerializeToString()
    path = tmp_path / "model.onnx"
    for size in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:size])
        try:
            graph = import_onnx(path)
        except ModelError:
            continue
        assert [node.op for node in graph.nodes] == ["Conv", "Relu"]
        np.testing.assert_array_equal(graph.constants["w"], weight)


def test_all_unknown_operators_are_listed() -> None:
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"], "first"),
        helper.make_node("NonMaxSuppression", ["a", "a"], ["b"], "second"),
        helper.make_node("FusedThing", ["b"], ["y"], "third", domain="com.example"),
    ]
    with pytest.raises(ModelError) as caught:
        import_onnx(
            model_of(nodes, {"x": [1, 3]}, ["y"], opsets=[helper.make_opsetid("", 18), helper.make_opsetid("com.example", 1)])
        )
    text = str(caught.value)
    assert "3 problems" in text
    for part in (
        "Frobnicate (node 'first')",
        "NonMaxSuppression (node 'second')",
        "FusedThing of domain 'com.example' (node 'third')",
    ):
        assert part in text


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    weight = np.ones((3, 4), np.float32)
    weight[1, 2] = value
    with pytest.raises(ModelError, match="initializer 'w' holds 1 of 12 values that are NaN or infinite"):
        import_onnx(model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 3]}, ["y"], {"w": weight}))


def test_an_infinite_bound_is_no_weight() -> None:
    import_onnx(
        model_of([helper.make_node("Clip", ["x", "low"], ["y"])], {"x": [3]}, ["y"], {"low": np.array(-np.inf, np.float32)})
    )


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("Relu", ["nowhere"], ["y"], "r")], "reads 'nowhere', which nothing makes"),
        (
            [helper.make_node("Relu", ["a"], ["y"], "r"), helper.make_node("Relu", ["x"], ["a"])],
            "reads 'a', which a later node makes",
        ),
        ([helper.make_node("Relu", ["x"], ["z"])], "Output 'y' is made by no node"),
        ([helper.make_node("Conv", ["x", "x"], ["y"], "c", group=7)], "Conv node 'c'"),
        ([helper.make_node("Relu", ["x"], ["y"], "r", slope=1.0)], "Unknown attribute 'slope' on Relu node 'r'"),
        ([helper.make_node("Reshape", ["x", "x"], ["y"], "r")], "node 'r' to be a constant"),
        ([helper.make_node("Concat", ["x", "x"], ["y"], "c")], "attribute 'axis' on Concat node 'c'"),
        ([helper.make_node("Constant", [], ["y"], "c", value_string="text")], "Constant node 'c' holds value_string"),
    ],
)
def test_models_that_break_the_rules(nodes: list[onnx.NodeProto], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_onnx(model_of(nodes, {"x": [1, 4, 5, 5]}, ["y"]))


@pytest.mark.parametrize("dtype", [TensorProto.STRING, TensorProto.BFLOAT16, TensorProto.COMPLEX64])
def test_element_types_a_graph_does_not_hold(dtype: int) -> None:
    with pytest.raises(ModelError, match=f"Input 'x' has the element type {TensorProto.DataType.Name(dtype)}"):
        import_onnx(relu_model([3], dtype=dtype))


def test_sparse_initializers_are_refused() -> None:
    model = relu_model([3])
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    with pytest.raises(ModelError, match="Initializer 'w' is stored sparse"):
        import_onnx(model)


def test_a_weight_with_too_few_bytes() -> None:
    model = model_of([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [1, 30]}, ["y"], {"w": np.ones((30, 4), np.float32)})
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:100]
    with pytest.raises(ModelError, match=r"initializer 'w' of shape \[30, 4\] cannot be read"):
        import_onnx(model)
