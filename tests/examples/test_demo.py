"""The demo's shipped files and how its images are made and shown."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from examples.demo import drawing
from examples.demo.network import GlyphNetwork, prepare
from rich.console import Console

FOLDER = Path(__file__).parents[2] / "examples" / "demo"


def samples() -> tuple[np.ndarray, np.ndarray]:
    archive = np.load(FOLDER / "samples.npz", allow_pickle=False)
    return archive["images"], archive["labels"]


def test_shipped_network_is_small_and_whole() -> None:
    path = FOLDER / "glyphs.onnx"
    assert path.stat().st_size < 2e6
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == 12
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def test_shipped_network_reads_the_shipped_images() -> None:
    images, labels = samples()
    classes = (FOLDER / "classes.txt").read_text().split()
    session = onnxruntime.InferenceSession(str(FOLDER / "glyphs.onnx"), providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(None, {"input": prepare(image[None])})[0] for image in images])
    assert logits.shape == (12, len(classes))
    assert (logits.argmax(1) == labels).sum() >= 10


def test_network_takes_what_prepare_gives() -> None:
    images, _ = samples()
    inputs = prepare(images)
    assert inputs.dtype == np.float32 and inputs.shape == (12, 3, 32, 32) and inputs.flags.c_contiguous
    assert inputs.min() >= -2 and inputs.max() <= 2
    with torch.no_grad():
        assert GlyphNetwork(45).eval()(torch.from_numpy(inputs)).shape == (12, 45)


def test_glyphs_are_the_same_for_the_same_seed() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    from benchmarks.miniatures import glyphs

    first, labels = glyphs.clean_images(6, seed=3)
    again, _ = glyphs.clean_images(6, seed=3)
    other, _ = glyphs.clean_images(6, seed=4)
    assert first.dtype == np.uint8 and first.shape == (6, glyphs.SIZE, glyphs.SIZE, 3)
    assert (first == again).all() and (first != other).any()
    assert labels.min() >= 0 and labels.max() < len(glyphs.CLASSES)
    assert len(set(glyphs.CLASSES)) == len(glyphs.CLASSES)
    noisy = glyphs.add_noise(first, seed=1)
    assert noisy.dtype == np.uint8 and 5 < np.abs(noisy.astype(int) - first).mean() < 40


def test_drawings_have_a_character_for_two_pixels() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    image[1:, 2:4] = (250, 0, 0)
    text = drawing.in_colour(image)
    assert [len(line) for line in text.plain.split("\n")] == [6, 6]
    console = Console(force_terminal=True, color_system="truecolor", width=40)
    with console.capture() as captured:
        console.print(text)
    assert "38;2;0;0;0;48;2;250;0;0m▀" in captured.get()
    assert [len(line) for line in drawing.in_shades(image).plain.split("\n")] == [6, 6]


def test_shades_show_the_figure_and_leave_the_ground_blank() -> None:
    image = np.full((8, 8, 3), 120, np.uint8)
    image[2:6, 3:5] = (255, 255, 0)
    lines = drawing.in_shades(image).plain.split("\n")
    assert lines[0].strip() == "" and lines[1][3:5] == "@@" and lines[1][:3] == "   "


def test_shrinking_takes_means() -> None:
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    small = drawing.shrink(image, 2)
    assert small.shape == (2, 2, 3)
    assert small[0, 0, 0] == np.rint(np.mean([image[0, 0, 0], image[0, 1, 0], image[1, 0, 0], image[1, 1, 0]]))
