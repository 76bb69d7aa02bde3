"""Expressions over integers: close to the floats they stand for on every code, and refused where they cannot be."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from tapdot.compiler.errors import ModelError
from tapdot.compiler.operators.fused import apply_expression
from tapdot.kernels.expression import Apply, Expression, operators, parse
from tapdot.passes.codes import Codes
from tapdot.passes.integer_arithmetic import OverflowRefused
from tapdot.passes.integer_expressions import Accumulator, Inexpressible, IntegerExpressions, Meaning, Real
from tapdot.passes.simulated import as_epilogue

SIGNED = Codes(0.031, 0, -128, 127, "int8")
UNSIGNED = Codes(0.017, 0, 0, 255, "uint8")
SHIFTED = Codes(0.043, 131, 0, 255, "uint8")
OUT = "scale=0.05, zero_point=0, low=-128, high=127, dtype='int8'"
SHIFTED_OUT = "scale=0.05, zero_point=77, low=0, high=255, dtype='uint8'"
CHANNELS = (1, 3, 1, 1)


def sums(scales: tuple[float, ...] = (0.001, 0.0004, 0.00007), reach: int = 40000) -> Accumulator:
    bounds = np.full(CHANNELS, reach, np.int64)
    return Accumulator(np.array(scales).reshape(CHANNELS), -bounds, bounds)


def per_channel(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(CHANNELS)


def converted(text: str, **meanings: Meaning) -> tuple[Expression, Mapping[str, np.ndarray], Codes]:
    convert = IntegerExpressions("node", meanings)
    expression = parse(text)
    assert isinstance(expression, Apply)
    made, codes = convert.quantized(expression)
    return made, convert.constants, codes


def integers_of(meaning: Meaning, seed: int, points: int = 700) -> torch.Tensor | np.ndarray:
    """All codes, or sums spread over their interval, at [1, 3, points, 1]."""
    generator = np.random.default_rng(seed)
    if isinstance(meaning, Codes):
        codes = generator.integers(meaning.low, meaning.high + 1, (1, 3, points, 1))
        codes[..., :2, 0] = (meaning.low, meaning.high)
        return torch.from_numpy(codes.astype(meaning.dtype))
    if isinstance(meaning, Accumulator):
        low, high = int(meaning.low.min()), int(meaning.high.max())
        return torch.from_numpy(generator.integers(low, high + 1, (1, 3, points, 1)).astype(np.int32))
    assert isinstance(meaning, np.ndarray)
    return meaning


def reals_of(integers: torch.Tensor | np.ndarray, meaning: Meaning) -> torch.Tensor:
    if isinstance(meaning, Codes):
        return (torch.as_tensor(integers).double() - meaning.zero_point) * meaning.scale
    if isinstance(meaning, Accumulator):
        return torch.as_tensor(integers).double() * torch.from_numpy(meaning.scale)
    return torch.as_tensor(np.asarray(integers)).double()


def codes_of(text: str, **meanings: Meaning) -> np.ndarray:
    """What the integer expression makes of seeded integers."""
    made, constants, _ = converted(text, **meanings)
    order, expression = as_epilogue(made)
    known = {name: integers_of(meaning, seed) for seed, (name, meaning) in enumerate(meanings.items())} | dict(constants)
    return run(expression, known["acc"], *(known[name] for name in order)).numpy().astype(np.int64)


def run(expression: Expression, *operands: torch.Tensor | np.ndarray) -> torch.Tensor:
    return apply_expression(expression, [torch.as_tensor(operand) for operand in operands])


def differences(text: str, **meanings: Meaning) -> np.ndarray:
    """Of the integer expression's codes from those of the float one in float64, in codes."""
    reals = {name: reals_of(integers_of(meaning, seed), meaning) for seed, (name, meaning) in enumerate(meanings.items())}
    order, expression = as_epilogue(parse(text))
    wanted = run(expression, reals["acc"], *(reals[name] for name in order)).numpy()
    assert isinstance(expression, Apply)
    given = Codes.of(dict(expression.attributes))
    return np.asarray(codes_of(text, **meanings) - np.rint(wanted / given.scale) - given.zero_point)


EXACT = [  # one rounding, which may turn a tie
    (f"FakeQuantize(acc, {OUT})", {"acc": sums()}),
    (f"FakeQuantize(Relu(acc), {SHIFTED_OUT})", {"acc": sums()}),
    (f"FakeQuantize(Clip(acc, min=0.0, max=6.0), {SHIFTED_OUT})", {"acc": sums()}),
    (f"FakeQuantize(Add(acc, r0), {OUT})", {"acc": SIGNED, "r0": SHIFTED}),
    (f"FakeQuantize(Sub(Relu(acc), r0), {OUT})", {"acc": SIGNED, "r0": per_channel(0.5, -0.25, 1.0)}),
    (f"FakeQuantize(Mul(acc, r0), {OUT})", {"acc": SHIFTED, "r0": UNSIGNED}),
    (f"FakeQuantize(Add(Mul(acc, r0), r1), {OUT})", {"acc": SHIFTED, "r0": per_channel(1, -2, 0.1), "r1": per_channel(3, 0, -1)}),
    (f"FakeQuantize(Add(Mul(acc, r0), Mul(r1, -0.5)), {OUT})", {"acc": UNSIGNED, "r0": per_channel(0, 1, 2), "r1": SIGNED}),
    (f"FakeQuantize(Mul(acc, Sigmoid(acc)), {OUT})", {"acc": SIGNED}),
    (f"FakeQuantize(HardSwish(acc), {SHIFTED_OUT})", {"acc": SHIFTED}),
    (f"FakeQuantize(Mul(acc, r0), {OUT})", {"acc": sums(), "r0": per_channel(2.0, -1.0, 0.0)}),
    (f"FakeQuantize(LeakyRelu(acc, alpha=0.1), {OUT})", {"acc": sums()}),
    (f"FakeQuantize(PRelu(acc, r0), {OUT})", {"acc": sums(), "r0": per_channel(0.2, 0.0, 1.0)}),
    (f"FakeQuantize(PRelu(acc, r0), {OUT})", {"acc": sums(), "r0": per_channel(0.2, 2.0, 1.0)}),
    (f"FakeQuantize(Add(acc, r0), {OUT})", {"acc": sums(), "r0": per_channel(0.3, -0.7, 0.01)}),
    (f"FakeQuantize(Max(acc, r0), {OUT})", {"acc": SIGNED, "r0": SHIFTED}),
    (f"FakeQuantize(Min(acc, 0.4), {OUT})", {"acc": SIGNED}),
]
TWICE_ROUNDED = [  # terms are rounded, then added
    (f"FakeQuantize(Relu(Add(acc, r0)), {OUT})", {"acc": sums(), "r0": UNSIGNED}),
    (f"FakeQuantize(Add(Relu(acc), r0), {SHIFTED_OUT})", {"acc": sums(), "r0": SHIFTED}),
    (f"FakeQuantize(Add(Clip(acc, min=-1.0, max=1.0), Mul(r0, 0.5)), {OUT})", {"acc": sums(), "r0": SIGNED}),
]


@pytest.mark.parametrize(("text", "meanings"), EXACT)
def test_rounds_once(text: str, meanings: dict[str, Meaning]) -> None:
    wrong = np.abs(differences(text, **meanings))
    assert wrong.max() <= 1 and (wrong > 0).mean() < 0.02
    assert len(np.unique(codes_of(text, **meanings))) > 20


@pytest.mark.parametrize(("text", "meanings"), TWICE_ROUNDED)
def test_each_term_of_a_sum_with_an_accumulator_is_rounded(text: str, meanings: dict[str, Meaning]) -> None:
    assert np.abs(differences(text, **meanings)).max() == 1
    assert len(np.unique(codes_of(text, **meanings))) > 20


@pytest.mark.parametrize(
    ("text", "meanings", "made"),
    [
        (
            f"FakeQuantize(Relu(acc), {OUT})",
            {"acc": sums()},
            "Narrow(Dyadic(acc, multiplier.0, shift.1), dtype='int8', high=127, low=0, zero_point=0)",
        ),
        (
            f"FakeQuantize(Relu(Add(acc, r0)), {OUT})",
            {"acc": sums((0.05, 0.05, 0.05)), "r0": UNSIGNED},
            "Narrow(Add(acc, Dyadic(Widen(r0, zero_point=0), multiplier=1460288881, shift=32)), "
            "dtype='int8', high=127, low=0, zero_point=0)",
        ),
        (
            f"FakeQuantize(Clip(acc, min=-1.0, max=6.0), {SHIFTED_OUT})",
            {"acc": Codes(0.05, 3, 0, 255, "uint8")},
            "Narrow(Widen(acc, zero_point=3), dtype='uint8', high=197, low=57, zero_point=77)",
        ),
        (f"FakeQuantize(acc, {OUT})", {"acc": Codes(0.05, 0, -128, 127, "int8")}, "acc"),
        (
            f"FakeQuantize(Mul(acc, r0), {OUT})",
            {"acc": UNSIGNED, "r0": SHIFTED},
            "Narrow(Dyadic(Mul(Widen(acc, zero_point=0), Widen(r0, zero_point=131)), multiplier=2009357500, shift=37), "
            "dtype='int8', high=127, low=-128, zero_point=0)",
        ),
        (
            f"FakeQuantize(Add(acc, r0), {OUT})",
            {"acc": Codes(0.05, 0, 0, 255, "uint8"), "r0": Codes(0.025, 0, 0, 255, "uint8")},
            "Narrow(Dyadic(Add(Mul(Widen(acc, zero_point=0), 1048576.0), Mul(Widen(r0, zero_point=0), 524288.0)), "
            "multiplier=1073741824, shift=50), dtype='int8', high=127, low=-128, zero_point=0)",
        ),
        (f"FakeQuantize(Sigmoid(FakeQuantize(acc, {OUT})), {OUT})", {"acc": SIGNED}, None),
        (
            f"FakeQuantize(Add(FakeQuantize(acc, {OUT}), r0), {OUT})",
            {"acc": sums(), "r0": Codes(0.05, 9, 0, 255, "uint8")},
            "Narrow(Add(Widen(Narrow(Dyadic(acc, multiplier.0, shift.1), dtype='int8', high=127, low=-128, zero_point=0), "
            "zero_point=0), Widen(r0, zero_point=9)), dtype='int8', high=127, low=-128, zero_point=0)",
        ),
    ],
)
def test_the_form(text: str, meanings: dict[str, Meaning], made: str | None) -> None:
    found, constants, _ = converted(text, **meanings)
    if made is None:
        assert operators(found)[-2:] == ("Narrow", "Lookup") and constants["table.0"].shape == (256,)
    else:
        assert str(found) == made


def test_a_table_holds_the_function_of_every_code_rounded_half_up() -> None:
    _, constants, _ = converted(f"FakeQuantize(Tanh(acc), {SHIFTED_OUT})", acc=SHIFTED)
    reals = (np.arange(256) - SHIFTED.zero_point) * SHIFTED.scale
    wanted = np.clip(np.floor(np.tanh(reals) / 0.05 + 0.5) + 77, 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(constants["table.0"], wanted)


def test_a_clamp_beyond_another_leaves_one_code() -> None:
    found, _, codes = converted(f"FakeQuantize(Clip(Relu(acc), min=-2.0, max=-1.0), {OUT})", acc=sums())
    assert "high=-20, low=-20" in str(found)
    assert (codes.low, codes.high) == (-20, -20)


@pytest.mark.parametrize(
    ("text", "meanings", "reason"),
    [
        ("Sigmoid(acc)", {"acc": sums()}, "Sigmoid of values without codes has no integer form"),
        ("Add(acc, r0)", {"acc": SIGNED, "r0": Real()}, "an operand is float"),
        ("Div(acc, r0)", {"acc": SIGNED, "r0": UNSIGNED}, "Div of values without codes has no integer form"),
        ("Add(acc, Exp(r0))", {"acc": sums(), "r0": SIGNED}, "Exp of values without codes"),
        ("PRelu(acc, r0)", {"acc": sums(), "r0": per_channel(-1, 2, 0)}, "partly negative, partly above 1"),
    ],
)
def test_what_has_no_integer_form(text: str, meanings: dict[str, Meaning], reason: str) -> None:
    with pytest.raises(Inexpressible, match=re.escape(reason)):
        converted(f"FakeQuantize({text}, {OUT})", **meanings)


def test_scales_too_far_apart_name_the_node() -> None:
    far = Codes(1e30, 0, -128, 127, "int8")
    with pytest.raises(ModelError, match=r"scales at node 'node' are too far apart to requantize: .*keep_float=node"):
        converted(f"FakeQuantize(acc, {OUT})", acc=far)
    with pytest.raises(ModelError, match=r"at node 'node', channel 1 are too far apart"):
        converted(f"FakeQuantize(acc, {OUT})", acc=sums((0.001, 1e30, 0.001)))


def test_a_dead_channel_of_many_is_zero() -> None:
    meaning = sums((0.001, 1e-30, 0.001), reach=2**31 - 1)
    made, constants, _ = converted(f"FakeQuantize(acc, {OUT})", acc=meaning)
    pair = (torch.from_numpy(constants["multiplier.0"]), torch.from_numpy(constants["shift.1"]))
    order, expression = as_epilogue(made)
    assert order == ["multiplier.0", "shift.1"]
    for extreme in (-(2**31), 2**31 - 1):
        assert run(expression, torch.full(CHANNELS, extreme, dtype=torch.int32), *pair).reshape(-1).tolist()[1] == 0


@pytest.mark.parametrize(
    ("text", "meanings", "what"),
    [
        ("Add(acc, r0)", {"acc": sums((4.0, 3.0, 2.0), 2**30), "r0": SIGNED}, "channel 0 of node 'node'"),
        ("Mul(acc, r0)", {"acc": sums((0.1, 0.9, 0.1), 2**31 - 1), "r0": per_channel(1, 1, 1)}, "shifted for the multiply"),
    ],
)
def test_what_may_overflow_is_refused(text: str, meanings: dict[str, Meaning], what: str) -> None:
    with pytest.raises(OverflowRefused, match=f"{re.escape(what)}.*beyond 2\\^31"):
        converted(f"FakeQuantize({text}, {OUT})", **meanings)


@pytest.mark.parametrize(
    "meaning",
    [
        Codes(0.1, 0, -32768, 32767, "int16"),
        Codes(0.1, 0, 0, 256, "uint8"),
        Codes(-0.1, 0, 0, 255, "uint8"),
        Codes(float("nan"), 0, 0, 255, "uint8"),
    ],
)
def test_codes_no_kernel_holds_are_refused(meaning: Codes) -> None:
    given = ", ".join(f"{name}={value!r}" for name, value in meaning.attributes.items() if value == value)
    text = f"FakeQuantize(acc, {given})" if meaning.scale == meaning.scale else f"FakeQuantize(acc, scale=1e999, {given})"
    with pytest.raises(ModelError, match="8 bits or fewer"):
        converted(text, acc=SIGNED)


def test_intervals_hold_what_is_computed() -> None:
    """Every value an expression takes lies in the interval proved for it, and corners are reached."""
    for left, right in itertools.product((SIGNED, UNSIGNED, SHIFTED), repeat=2):
        convert = IntegerExpressions("node", {"acc": left, "r0": right})
        total = convert.at_scale(parse("Add(Mul(acc, r0), Sub(acc, Mul(r0, 2.0)))"), np.float64(0.01))
        x, y = (integers_of(meaning, seed, 4000) for seed, meaning in enumerate((left, right)))
        order, expression = as_epilogue(total.expression)
        assert order == ["r0"] and "Dyadic" in operators(expression)
        found = run(expression, x, y)
        assert total.low <= found.min() and found.max() <= total.high
