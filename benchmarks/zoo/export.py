"""Files of zoo networks: `.onnx` for every engine, `.pt2` where batch norm must survive.

python -m benchmarks.zoo.export resnet18 mobilenet_v2 --to models/ --seed 0
"""

import argparse
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from onnxscript import optimizer
from torch import nn

from benchmarks.files import replace

OPSET = 18


def write_onnx(module: nn.Module, input_shape: tuple[int, ...], path: Path, *, fold: bool = True) -> Path:
    """Write `module` as ONNX with its weights inside, input named `input`, output `output`.

    `fold=False` keeps batch norms as nodes of their own; otherwise the exporter folds them into the convolutions.
    """

    def write(temporary: Path) -> None:
        with quiet_exporter():
            program = torch.onnx.export(
                module.eval(),
                (torch.zeros(input_shape),),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["output"],
                optimize=fold,
                verbose=False,
            )
        assert program is not None
        if not fold:
            # What the exporter's own optimization does, less the rules that fuse nodes.
            optimizer.fold_constants(program.model)
            optimizer.remove_unused_nodes(program.model)
        program.save(str(temporary), external_data=False)

    return replace(path, write)


def write_pt2(module: nn.Module, input_shape: tuple[int, ...], path: Path) -> Path:
    """Write `module` as a `torch.export` archive: batch norms, dropout and parameter names are those of the module."""

    def write(temporary: Path) -> None:
        torch.export.save(torch.export.export(module.eval(), (torch.zeros(input_shape),)), str(temporary))

    return replace(path, write)


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Keep the exporter's notes about itself (absent torchvision, its own deprecations) off the user's screen."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def main() -> None:
    from benchmarks import zoo

    parser = argparse.ArgumentParser(description="Write zoo networks with seeded weights as .onnx and .pt2 files.")
    parser.add_argument("networks", nargs="+", choices=sorted(zoo.NETWORKS))
    parser.add_argument("--to", type=Path, default=Path("models"), help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for name in arguments.networks:
        module, shape = zoo.build(name, arguments.seed), zoo.NETWORKS[name].input_shape
        print(write_onnx(module, shape, arguments.to / f"{name}.onnx"))
        print(write_pt2(module, shape, arguments.to / f"{name}.pt2"))


if __name__ == "__main__":
    main()
