"""DATA in every form it may have, and a clear sentence for each that does not fit."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tapdot.compiler.data import Batch, ImageFolder, model_input, open_data
from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph, GraphBuilder
from tapdot.compiler.images import ImagePreparation
from tapdot.compiler.types import TensorType

KIND = TensorType((2, 3, 4, 5), "float32")
ONE = TensorType((1, 3, 4, 5), "float32")


def inputs(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, 4, 5), np.float32)


def refused(source: object, sentence: str, kind: TensorType = KIND) -> None:
    """Going through the data ends in an InputError that holds `sentence`."""
    with pytest.raises(InputError, match=re.escape(sentence)):
        list(open_data(source).batches(kind))


def joined(batches: list[Batch]) -> np.ndarray:
    return np.concatenate([batch.inputs[: batch.count] for batch in batches])


# -- npz files ---------------------------------------------------------------------------------------------------------------


def test_npz_gives_batches_of_the_models_size_and_fills_the_last(tmp_path: Path) -> None:
    x = inputs(5)
    np.savez(tmp_path / "d.npz", x=x, y=np.array([3, 1, 4, 1, 5], np.int32))
    data = open_data(tmp_path / "d.npz")
    batches = list(data.batches(KIND))
    assert [batch.count for batch in batches] == [2, 2, 1]
    assert all(batch.inputs.shape == KIND.shape and batch.inputs.dtype == np.float32 for batch in batches)
    assert (joined(batches) == x).all()
    assert (batches[2].inputs[1] == x[4]).all()
    labels = np.concatenate([batch.labels for batch in batches if batch.labels is not None])
    assert labels.tolist() == [3, 1, 4, 1, 5] and labels.dtype == np.int64
    assert len(list(data.batches(ONE))) == 5
    assert sum(batch.count for batch in data.batches(KIND, limit=3)) == 3
    assert (joined(list(data.batches(KIND))) == x).all()  # again: nothing was used up


def test_npz_without_labels_has_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=inputs(2).astype(np.float64))
    (batch,) = open_data(str(tmp_path / "d.npz")).batches(KIND)
    assert batch.labels is None and batch.inputs.dtype == np.float32


def test_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    refused(tmp_path / "none.npz", "There is no data at")


def test_npz_without_x_names_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=inputs(2), y=np.zeros(2, np.int64))
    refused(tmp_path / "d.npz", "Expected an array x of inputs")
    refused(tmp_path / "d.npz", "found images, y")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "sprung"),))  # type: ignore[return-value]

    np.savez(tmp_path / "d.npz", x=np.array([Trap()], object))
    refused(tmp_path / "d.npz", "not a readable .npz file of plain arrays")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive", b"\x93NUMPY\x01\x00"])
def test_damaged_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    refused(tmp_path / "d.npz", "not a readable .npz file of plain arrays")


def test_truncated_npz_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=inputs(4))
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "d.npz", "not a readable .npz file of plain arrays")


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=inputs(4), y=np.zeros(3, np.int64))
    refused(tmp_path / "d.npz", "for each of 4 samples in x, found 3")


def test_labels_must_be_class_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=inputs(4), y=np.zeros((4, 10)))
    refused(tmp_path / "d.npz", "to be class numbers, int64[N], found float64[4, 10]")


def test_no_samples_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=inputs(0))
    refused(tmp_path / "d.npz", "holds no samples")
    refused(inputs(0), "holds no samples")
    refused([], "holds no samples")


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (np.inf, "an infinity"), (-np.inf, "an infinity")])
def test_values_that_are_not_finite_name_their_sample(value: float, word: str) -> None:
    x = inputs(9)
    x[6, 1, 2, 3] = value
    refused(x, f"Sample 6 of the data holds {word}")


def test_values_beyond_float32_name_their_sample() -> None:
    x = inputs(3).astype(np.float64)
    x[1, 0, 0, 0] = 1e300
    refused(x, "Sample 1 of the data holds an infinity")


def test_wrong_shapes_say_both_and_see_channels_that_are_last() -> None:
    refused(
        np.zeros((2, 3, 8, 8), np.float32), "Expected samples of [3, 4, 5] in the data, as the model takes them, found [3, 8, 8]"
    )
    refused(np.zeros((2, 4, 5, 3), np.float32), "use transpose(0, 3, 1, 2)")
    refused(np.zeros((3, 4, 5), np.float32), "found [4, 5]")


def test_arrays_of_what_is_no_number_are_refused() -> None:
    refused({"x": np.array(["a", "b"])}, "an array of real numbers, found ndarray of <U1")
    refused(inputs(2) + 1j, "an array of real numbers")
    refused([object()], "item 0 of the data to be an array of real numbers")
    refused([[[1, 2], [3], [4]]], "item 0 of the data to be an array of numbers")


def test_models_that_data_does_not_fit_are_refused() -> None:
    refused(inputs(2), "whose input is float32", TensorType((2, 3, 4, 5), "int64"))
    refused(3, "found int")


# -- Python ------------------------------------------------------------------------------------------------------------------


def test_arrays_tensors_pairs_and_mappings_are_the_same_data() -> None:
    x, y = inputs(4), np.arange(4)
    tensor = torch.from_numpy(x).requires_grad_()
    for source in (x, tensor, (x, y), (tensor, torch.from_numpy(y)), {"x": x, "y": y}):
        batches = list(open_data(source).batches(KIND))
        assert (joined(batches) == x).all()
        assert (batches[1].labels is None) == (source is x or source is tensor)


def test_iterables_of_batches_samples_and_pairs_are_cut_to_the_models_batch() -> None:
    x, y = inputs(6), np.arange(6)
    odd = [x[:1], x[1:4], x[4:]]
    pairs = [[x[:4], torch.from_numpy(y[:4])], (x[4:], y[4:])]
    for source in (odd, list(x), [torch.from_numpy(sample) for sample in x], pairs, [(x[i], y[i]) for i in range(6)]):
        batches = list(open_data(source).batches(KIND))
        assert [batch.count for batch in batches] == [2, 2, 2]
        assert (joined(batches) == x).all()
    assert batches[2].labels is not None and batches[2].labels.tolist() == [4, 5]


def test_a_torch_data_loader_is_data() -> None:
    x, y = torch.from_numpy(inputs(7)), torch.arange(7)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=3)
    batches = list(open_data(loader).batches(KIND))
    assert (joined(batches) == x.numpy()).all()
    assert batches[3].labels is not None and batches[3].labels.tolist() == [6]


def test_a_generator_can_be_gone_through_twice_and_is_read_no_further_than_needed() -> None:
    read = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            read.append(len(read))
            yield inputs(2, seed=len(read))

    data = open_data(endless())
    first = joined(list(data.batches(KIND, limit=6)))
    assert len(read) <= 4
    again = joined(list(data.batches(KIND, limit=6)))
    assert (first == again).all() and len(read) <= 4


def test_items_that_do_not_fit_are_named() -> None:
    refused([inputs(2), np.zeros((2, 3, 4, 4), np.float32)], "Expected samples of [3, 4, 5] in item 1 of the data")
    refused([(inputs(2), np.arange(3))], "Expected 2 labels with item 0 of the data, one for each sample, found 3")


def test_the_one_input_of_a_graph_is_found() -> None:
    builder = GraphBuilder("two")
    one = builder.input("one", KIND)
    graph = builder.build([builder.add("Relu", [one])])
    assert model_input(graph) == ("one", KIND)
    two = builder.input("two", KIND)
    graph = builder.build([builder.add("Add", [one, two])])
    assert isinstance(graph, Graph)
    with pytest.raises(InputError, match="'two' has 2: one, two"):
        model_input(graph)


# -- folders of images -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three ants and one bee, 40 wide and 30 high, each in a colour of its own."""
    image = pytest.importorskip("PIL.Image")
    for name, colours in {"bee": [(0, 0, 255)], "ant": [(255, 0, 0), (0, 255, 0), (10, 20, 30)]}.items():
        (tmp_path / name).mkdir()
        for index, colour in enumerate(colours):
            image.new("RGB", (40, 30), colour).save(tmp_path / name / f"{index}.png")
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_folders_give_normalised_images_whose_classes_take_turns(folder: Path) -> None:
    data = open_data(folder)
    assert isinstance(data, ImageFolder) and data.classes == ("ant", "bee")
    batches = list(data.batches(KIND))
    assert [batch.labels.tolist() for batch in batches if batch.labels is not None] == [[0, 1], [0, 0]]
    red, blue = batches[0].inputs
    expected = (np.array([1, 0, 0], np.float32) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(red, expected.reshape(3, 1, 1), atol=1e-6) and red.shape == (3, 4, 5)
    assert np.allclose(blue[2], (1 - 0.406) / 0.225, atol=1e-6)


def test_normalisation_can_be_set(folder: Path) -> None:
    data = open_data(folder, images=ImagePreparation(mean=(0.0, 0.0, 0.0), deviation=(1.0, 1.0, 0.5)))
    samples = joined(list(data.batches(KIND)))
    assert np.allclose(samples[3, :, 0, 0], [10 / 255, 20 / 255, 60 / 255])
    grey = open_data(folder, images=ImagePreparation(mean=(0.5,), deviation=(0.5,)))
    assert next(iter(grey.batches(TensorType((1, 1, 4, 4), "float32")))).inputs.shape == (1, 1, 4, 4)


def test_images_are_resized_by_the_shorter_side_and_cropped_in_the_middle(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :, 0] = np.arange(32) * 8
    (tmp_path / "only").mkdir()
    image.fromarray(pixels).save(tmp_path / "only" / "ramp.png")
    plain = ImagePreparation((0.0,) * 3, (1.0,) * 3, crop_share=1.0)
    kind = TensorType((1, 3, 16, 16), "float32")
    ((sample,),) = (batch.inputs for batch in open_data(tmp_path, images=plain).batches(kind))
    assert np.allclose(sample[0, 0] * 255, np.arange(8, 24) * 8)
    halved = ImagePreparation((0.0,) * 3, (1.0,) * 3, crop_share=0.5)
    kind = TensorType((1, 3, 4, 4), "float32")
    ((sample,),) = (batch.inputs for batch in open_data(tmp_path, images=halved).batches(kind))
    assert np.allclose(sample[0, 0] * 255, [100, 116, 132, 148], atol=1)  # the middle 4 of 16 columns that average pairs


def test_grey_and_transparent_images_become_what_the_model_takes(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "mixed").mkdir()
    for mode in ("L", "RGBA", "P", "1", "I;16"):
        image.new(mode, (9, 9)).save(tmp_path / "mixed" / f"{mode.replace(';', '')}.png")
    image.new("CMYK", (9, 9)).save(tmp_path / "mixed" / "cmyk.JPG")
    batches = list(open_data(tmp_path).batches(KIND))
    assert sum(batch.count for batch in batches) == 6


def test_folders_without_classes_or_images_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    refused(tmp_path, "hold a folder of images for each class, found none")
    (tmp_path / "empty").mkdir()
    refused(tmp_path, "holds no images")


@pytest.mark.parametrize("damage", [b"", b"text", None])
def test_images_that_cannot_be_read_are_named(folder: Path, damage: bytes | None) -> None:
    broken = folder / "ant" / "1.png"
    broken.write_bytes(broken.read_bytes()[:60] if damage is None else damage)
    refused(folder, f"{broken} cannot be read as an image")


def test_models_that_images_do_not_fit_are_refused(folder: Path) -> None:
    refused(folder, "takes samples of [5, 4, 4]", TensorType((1, 5, 4, 4), "float32"))
    refused(folder, "takes 1 channels, and the normalisation has 3 means", TensorType((1, 1, 4, 4), "float32"))


def test_preparations_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="deviation above 0"):
        ImagePreparation(deviation=(1.0, 0.0, 1.0))
    with pytest.raises(InputError, match="one mean and one deviation"):
        ImagePreparation(mean=(0.5,))
    with pytest.raises(InputError, match="crop_share"):
        ImagePreparation(crop_share=0.0)


def test_without_pillow_the_sentence_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    refused(folder, "pip install 'tapdot[images]'")
