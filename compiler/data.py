"""DATA: samples of a model's input, with labels where they are known, from whatever people have.

======================== =================================================================================================
DATA                     is read as
======================== =================================================================================================
``samples.npz``          array ``x`` [N, ...] as the model takes it, and optionally ``y`` [N], the classes; or an array [N, ...]
                         for each input of the model, by its name
a folder                 a folder of images for each class; see :mod:`tapdot.compiler.images`
an array or tensor       as ``x``; a tuple of two as ``x`` and ``y``; a mapping as what it names
any other iterable       batches, single samples, or pairs of either with labels, such as a torch DataLoader gives
======================== =================================================================================================
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tapdot.compiler.errors import InputError
from tapdot.compiler.graph import Graph
from tapdot.compiler.images import ImagePreparation, find_images, read_image, require_pillow
from tapdot.compiler.types import TensorType

Sample = tuple[np.ndarray, int | None]
"""One sample without its batch axis, float32, and its label."""


@dataclass(frozen=True)
class Batch:
    """Samples as the model takes them: ``inputs`` float32 of the input's own shape, ``labels`` int64 [count] where known.

    The first ``count`` are new; where the data ran out in the middle of a batch, the last sample fills the rest.
    """

    inputs: np.ndarray
    labels: np.ndarray | None
    count: int


class Data:
    """Samples that can be gone through again and again. Made by :func:`open_data`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def samples(self, shape: tuple[int, ...]) -> Iterator[Sample]:
        """Every sample, of this shape without a batch axis; InputError where one does not fit."""
        raise NotImplementedError

    def for_input(self, name: str) -> Data:
        """What there is for a model whose only input has this name; InputError where that is nothing."""
        return self

    def some(self, count: int, seed: int) -> Data:
        """At most ``count`` of the samples, picked at random and kept in order; of what can only be read in order, all."""
        return self

    def batches(self, kind: TensorType, limit: int | None = None) -> Iterator[Batch]:
        """The first ``limit`` samples (all, if None) in batches of the input's own size.

        Raises InputError where the model's input is not float32, or a sample has another shape or is not finite, or there are no
        samples at all; it names the sample by its place, counted from 0.
        """
        if kind.dtype != "float32" or kind.rank < 1:
            raise InputError(f"Data fits models whose input is float32 with a batch axis, and this one takes {kind}.")
        size, shape = kind.shape[0], kind.shape[1:]
        waiting: list[Sample] = []
        seen = 0
        for sample, label in self.samples(shape):
            if limit is not None and seen == limit:
                break
            if not np.isfinite(sample).all():
                found = "NaN" if np.isnan(sample).any() else "an infinity"
                raise InputError(
                    f"Sample {seen} of {self.name} holds {found}; every value must be finite. Correct it or remove it."
                )
            waiting.append((sample, label))
            seen += 1
            if len(waiting) == size:
                yield _batch(waiting, size)
                waiting = []
        if waiting:
            yield _batch(waiting, size)
        if not seen:
            raise InputError(f"{self.name} holds no samples; at least one is needed.")


def _batch(samples: list[Sample], size: int) -> Batch:
    arrays = [sample for sample, _ in samples]
    labels = [label for _, label in samples if label is not None]
    known = np.array(labels, np.int64) if len(labels) == len(samples) else None
    return Batch(np.stack(arrays + arrays[-1:] * (size - len(arrays))), known, len(samples))


def model_input(graph: Graph) -> tuple[str, TensorType]:
    """The one input that data is for, by name and type; InputError where the model has several."""
    if len(graph.inputs) != 1:
        raise InputError(
            f"Such data fits models with one input, and graph {graph.name!r} has {len(graph.inputs)}: {', '.join(graph.inputs)}; "
            "give an .npz file with an array for each, by its name."
        )
    return graph.inputs[0], graph.type(graph.inputs[0])


def open_data(source: object, *, images: ImagePreparation | None = None) -> Data:
    """DATA in any of its forms; see the table above. ``images`` says how pixels become inputs, where there are any.

    Raises InputError for a path that is missing or holds something else; what only a model's input can tell is checked by
    :meth:`Data.batches`.
    """
    if isinstance(source, Data):
        return source
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source), images or ImagePreparation())
    if _is_array(source):
        return _Arrays("the data", _array(source, "the data"), None)
    if isinstance(source, Mapping):
        return NamedArrays("the data", source)
    if isinstance(source, tuple) and len(source) == 2 and all(_is_array(part) for part in source):
        return NamedArrays("the data", {"x": source[0], "y": source[1]})
    if isinstance(source, Iterable):
        return Stream("the data", source)
    raise InputError(
        "Expected data as an .npz file, a folder of class folders of images, an array, or an iterable of batches, found "
        f"{type(source).__name__}."
    )


def _open_path(path: Path, images: ImagePreparation) -> Data:
    if path.is_dir():
        require_pillow()
        classes, files = find_images(path)
        return ImageFolder(str(path), classes, files, images)
    if not path.exists():
        raise InputError(
            f"There is no data at {path}; give an .npz file (numpy.savez(path, x=inputs)) or a folder of class folders of images."
        )
    try:
        with np.load(path, allow_pickle=False) as stored:
            return NamedArrays(str(path), {name: stored[name] for name in stored.files})
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise InputError(
            f"{path} is not a readable .npz file of plain arrays; write it with numpy.savez(path, x=inputs)."
        ) from error


def _with_labels(name: str, arrays: Mapping[str, Any], inputs_name: str) -> Data:
    """The array of that name as inputs, and y as their labels."""
    inputs = _array(arrays[inputs_name], f"{inputs_name} of {name}")
    labels = _labels(arrays["y"], f"y of {name}") if "y" in arrays else None
    if inputs.ndim == 0 or len(inputs) == 0:
        raise InputError(f"{inputs_name} of {name} holds no samples (its shape is {list(inputs.shape)}); at least one is needed.")
    if labels is not None and len(labels) != len(inputs):
        raise InputError(
            f"Expected one label in y of {name} for each of {len(inputs)} samples in {inputs_name}, found {len(labels)}."
        )
    return _Arrays(name, inputs, labels)


class NamedArrays(Data):
    """An array ``x``, perhaps with labels ``y``; or an array for each input of a model, by its name."""

    def __init__(self, name: str, arrays: Mapping[str, Any]) -> None:
        super().__init__(name)
        self._arrays = arrays
        if not arrays:
            raise InputError(
                f"Expected an array x of inputs in {name}, found no array; write it with numpy.savez(path, x=inputs)."
            )

    def samples(self, shape: tuple[int, ...]) -> Iterator[Sample]:
        return self.for_input("x").samples(shape)

    def for_input(self, name: str) -> Data:
        if "x" in self._arrays:
            return _with_labels(self.name, self._arrays, "x")
        if name not in self._arrays or name == "y":
            other = "" if name in "xy" else f", or one named {name!r} like the model's input,"
            raise InputError(
                f"Expected an array x of inputs{other} in {self.name}, found {', '.join(map(str, self._arrays))}; write it with "
                "numpy.savez(path, x=inputs)."
            )
        return _with_labels(self.name, self._arrays, name)

    def for_inputs(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """One array for each input of a model with several; InputError where one is missing."""
        missing = [name for name in names if name not in self._arrays]
        if missing:
            raise InputError(
                f"Expected an array for every input of the model in {self.name}, {', '.join(names)}, but {', '.join(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing; it holds {', '.join(map(str, self._arrays))}. Write the arrays "
                f"by the model's names: numpy.savez(path, **{{{', '.join(f'{name!r}: array' for name in names)}}})."
            )
        return {name: _array(self._arrays[name], f"{name} of {self.name}") for name in names}


class _Arrays(Data):
    """All inputs in one array, batch axis first."""

    def __init__(self, name: str, inputs: np.ndarray, labels: np.ndarray | None) -> None:
        super().__init__(name)
        self._inputs = inputs
        self._labels = labels

    def some(self, count: int, seed: int) -> Data:
        places = _picked(len(self._inputs), count, seed)
        return _Arrays(self.name, self._inputs[places], None if self._labels is None else self._labels[places])

    def samples(self, shape: tuple[int, ...]) -> Iterator[Sample]:
        _check_shape(self._inputs.shape[1:], shape, f"x of {self.name}" if self._labels is not None else self.name)
        for index, sample in enumerate(self._inputs):
            yield _float32(sample), None if self._labels is None else int(self._labels[index])


class ImageFolder(Data):
    """Images by class; ``classes`` are the folders' names in the order of the labels."""

    def __init__(self, name: str, classes: tuple[str, ...], files: list[tuple[Path, int]], preparation: ImagePreparation) -> None:
        super().__init__(name)
        self.classes = classes
        self._files = files
        self._preparation = preparation

    def some(self, count: int, seed: int) -> Data:
        files = [self._files[place] for place in _picked(len(self._files), count, seed)]
        return ImageFolder(self.name, self.classes, files, self._preparation)

    def samples(self, shape: tuple[int, ...]) -> Iterator[Sample]:
        self._preparation.check(shape)
        for file, label in self._files:
            yield read_image(file, shape, self._preparation), label


@dataclass
class Stream(Data):
    """Whatever an iterable gives: batches, samples, or pairs with labels. What can be read only once is kept once read."""

    name: str
    items: Iterable[Any]
    _kept: list[Any] = field(default_factory=list)

    def replayed(self) -> Iterator[Any]:
        """The items, from the first."""
        if not isinstance(self.items, Iterator):
            yield from self.items
            return
        position = 0
        while True:
            if position == len(self._kept):
                try:
                    self._kept.append(next(self.items))
                except StopIteration:
                    return
            yield self._kept[position]
            position += 1

    def samples(self, shape: tuple[int, ...]) -> Iterator[Sample]:
        for place, item in enumerate(self.replayed()):
            where = f"item {place} of {self.name}"
            paired = isinstance(item, tuple | list) and len(item) == 2
            inputs = _array(item[0] if paired else item, where)
            labels = _labels(item[1], f"the labels of {where}") if paired else None
            if inputs.ndim == len(shape):
                inputs = inputs[np.newaxis]
            _check_shape(inputs.shape[1:], shape, where)
            if labels is not None and len(labels) != len(inputs):
                raise InputError(f"Expected {len(inputs)} labels with {where}, one for each sample, found {len(labels)}.")
            for index, sample in enumerate(inputs):
                yield _float32(sample), None if labels is None else int(labels[index])


def _picked(total: int, count: int, seed: int) -> np.ndarray:
    """Places of at most ``count`` among ``total``, in order."""
    if count >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, count, replace=False))


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "detach") or hasattr(value, "__array__")


def _array(value: Any, where: str) -> np.ndarray:
    """The value as a numpy array of real numbers; a torch tensor comes from wherever it is."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"Expected {where} to be an array of numbers, found {type(value).__name__}.") from error
    if array.dtype.kind not in "fiub":
        raise InputError(f"Expected {where} to be an array of real numbers, found {type(value).__name__} of {array.dtype}.")
    return array


def _labels(value: Any, where: str) -> np.ndarray:
    array = np.atleast_1d(_array(value, where))
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(f"Expected {where} to be class numbers, int64[N], found {array.dtype}{list(array.shape)}.")
    return array.astype(np.int64)


def _float32(sample: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what does not fit becomes an infinity, which is named with its sample
        return np.asarray(sample, np.float32)


def _check_shape(found: tuple[int, ...], expected: tuple[int, ...], where: str) -> None:
    if found == expected:
        return
    hint = ""
    if len(expected) == 3 and found == (*expected[1:], expected[0]):
        hint = " The channels are last here and first in the model: use transpose(0, 3, 1, 2)."
    raise InputError(f"Expected samples of {list(expected)} in {where}, as the model takes them, found {list(found)}.{hint}")
