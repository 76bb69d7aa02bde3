"""Without data and without scales there is nothing to quantize by."""

from __future__ import annotations

import pytest
from tests.small_networks import small_network

from tapdot.compiler.errors import InputError
from tapdot.compiler.pipeline import run
from tapdot.passes.recipes import recipe


def test_it_says_what_to_give() -> None:
    with pytest.raises(InputError, match=r"need the ranges of activations.*\(--data DATA\).*\(--zero-shot\)"):
        run(small_network(), recipe("int8"))
