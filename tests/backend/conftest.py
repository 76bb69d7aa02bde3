"""The usual run compiles a sample of ONNX's operator cases; ``--soak`` compiles them all."""

from __future__ import annotations

import pytest
from tests.backend.compiled import in_sample


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--soak"):
        return
    left = [item for item in items if item.path.stem == "test_compiled_backend" and not in_sample(item)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]
