"""The networks everything is measured on, in plain torch, with the parameter names of the published weights.

module = zoo.build("resnet18")                        # seeded weights, ready to run
zoo.load_weights(module, "resnet18-f37072fd.pth")     # or official ones
"""

import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.zoo.inception_v3 import InceptionV3
from benchmarks.zoo.mobilenet_v2 import MobileNetV2
from benchmarks.zoo.resnet import ResNet18, ResNet50
from benchmarks.zoo.seeding import seed_weights, seeded_images
from benchmarks.zoo.squeezenet import SqueezeNet
from benchmarks.zoo.vgg import VGG16

__all__ = ["NETWORKS", "Network", "build", "load_weights", "seeded_images", "skeleton"]


@dataclass(frozen=True)
class Network:
    """One entry of the zoo: how to make it and the square image it takes."""

    title: str
    constructor: type[nn.Module]
    input_size: int = 224

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """Batch 1, three channels."""
        return (1, 3, self.input_size, self.input_size)


NETWORKS = {
    "vgg16": Network("VGG-16", VGG16),
    "resnet18": Network("ResNet-18", ResNet18),
    "resnet50": Network("ResNet-50", ResNet50),
    "mobilenet_v2": Network("MobileNetV2", MobileNetV2),
    "inception_v3": Network("InceptionV3", InceptionV3, input_size=299),
    "squeezenet": Network("SqueezeNet 1.1", SqueezeNet),
}


def find(name: str) -> Network:
    if name not in NETWORKS:
        raise ValueError(f"The zoo has no network '{name}'; it has {', '.join(NETWORKS)}.")
    return NETWORKS[name]


def skeleton(name: str) -> nn.Module:
    """The network without storage (torch's meta device), in eval mode: shapes and names at no cost."""
    with torch.device("meta"):
        return find(name).constructor().eval()


def build(name: str, seed: int = 0) -> nn.Module:
    """The network in eval mode with seeded, well-behaved weights (see `seeding`); equal seeds give equal weights."""
    module = skeleton(name).to_empty(device="cpu")
    seed_weights(module, NETWORKS[name].input_size, seed)
    return module


def load_weights(module: nn.Module, path: str | Path) -> nn.Module:
    """Load a published state dict into `module`, strictly; the file may hold tensors and nothing else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"'{path}' is not a file of tensors that torch can read without running code.") from error
    try:
        module.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"The weights in '{path}' are not those of {type(module).__name__}: {error}") from error
    return module.eval()
