"""Reading and writing arrays of users; most cases go through the command line."""

import numpy as np

from tapdot.runtime.arrays import names_of_not_finite


def test_names_of_arrays_that_hold_no_numbers() -> None:
    arrays = {"a": np.array([1.0, np.nan]), "b": np.array([1.0]), "c": np.array([3]), "d": np.array([np.inf], np.float32)}
    assert names_of_not_finite(arrays) == ["a", "d"]
