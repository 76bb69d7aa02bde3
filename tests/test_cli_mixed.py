"""The command line and the recipe mixed: bits from a file, sizes that inspect tells, and sentences for a bad choice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.command_line import Tapdot, failed
from tests.test_cli_int8 import IMAGES, residual_with_softmax

MIXED = ("--recipe", "mixed", "--target", "host:generic")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    residual_with_softmax(tmp_path / "residual.onnx")
    np.savez(tmp_path / "x.npz", x=IMAGES)
    (tmp_path / "bits.json").write_text('{"weights": {"first": 4, "second": 2}, "activations": {"second": 4}}')
    return tmp_path


def arguments(folder: Path, *more: str) -> tuple[object, ...]:
    return ("compile", folder / "residual.onnx", "-o", folder / "r.tapdot", "--data", folder / "x.npz", *MIXED, *more)


def test_layers_get_the_bits_of_a_file(tapdot: Tapdot, folder: Path) -> None:
    outcome = tapdot(*arguments(folder, "--set", f"mixed.bits={folder / 'bits.json'}"))
    assert (outcome.status, outcome.out) == (0, "")
    assert "int4 108 bytes" in outcome.sentence and "int2 8 bytes" in outcome.sentence
    facts = tapdot("inspect", folder / "r.tapdot", "--json").json()
    assert facts["coverage"]["weight_bytes"]["int4"] == 8 * 27 / 2
    assert facts["weights_in_file_bytes"] < facts["weights_bytes"]
    assert "int4[8,3,3,3]" in facts["graph"] and "int2[4,8,1,1]" in facts["graph"] and "!quant(bits=4 " in facts["graph"]
    assert tapdot("verify", folder / "r.tapdot", "--device", "host").status == 0


@pytest.mark.parametrize(
    ("bits", "message"),
    [
        ({"weights": {"frist": 4}}, "found 'frist'. Did you mean 'first'?"),
        ({"weights": {"first": 5}}, "Expected 2, 4 or 8 bits for the weights of 'first', found 5"),
        ({"weights": {"middle": 4}}, "Expected a layer with weights, found 'middle', a Relu node"),
        ({"activations": {"answer": 4}}, "becomes codes for 'answer'"),
    ],
)
def test_a_bad_choice_is_a_sentence(tapdot: Tapdot, folder: Path, bits: object, message: str) -> None:
    (folder / "bad.json").write_text(json.dumps(bits))
    failed(tapdot(*arguments(folder, "--set", f"mixed.bits={folder / 'bad.json'}")), message)


def test_without_bits_it_says_what_to_give(tapdot: Tapdot, folder: Path) -> None:
    failed(tapdot(*arguments(folder)), "name a JSON file of bit widths (--bits FILE)")
    other = ("compile", folder / "residual.onnx", "-o", folder / "r.tapdot", "--set", "mixed.bits=bits.json")
    failed(tapdot(*other), "The recipe 'float' takes no bit widths by layer")
