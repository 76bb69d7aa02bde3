"""``tapdot.tune``: from a model to records of which configurations of its kernels are fastest on a device."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapdot.compiler.errors import TapdotError
from tapdot.compiler.package import Package

if TYPE_CHECKING:
    from tapdot.runtime.devices.base import Device
    from tapdot.runtime.tuning.report import Snapshot, TuningResult


def tune(
    model: Any,
    example_inputs: Sequence[Any] | None = None,
    *,
    device: str | Device = "host",
    trials: int = 200,
    records: str | os.PathLike[str] | None = None,
    target: str | None = None,
    recipe: str = "float",
    data: object = None,
    zero_shot: bool = False,
    shapes: Mapping[str, Sequence[int]] | None = None,
    settings: Sequence[str] = (),
    threads: int = 1,
    sampler: str = "tpe",
    seed: int | None = None,
    time_limit: float | None = None,
    trial_limit: float = 30.0,
    workers: int | None = None,
    watch: Callable[[Snapshot], object] = lambda snapshot: None,
) -> TuningResult:
    """Tries configurations of a model's kernels on a device and records how they fare; compile with ``records=`` to use them.

    ``model`` is what :func:`tapdot.compile` takes, with its options, or a package or ``.tapdot`` file. ``records`` is a file or
    the URL of a database (by default ``tapdot/records.db`` in ``XDG_DATA_HOME`` or ``~/.local/share``). ``trials`` configurations
    are tried of all kernels together, those counted that the records know: the same call after an interruption does the rest.
    ``sampler`` is tpe, genetic, random or grid. ``time_limit`` is in seconds for all, ``trial_limit`` for one configuration;
    ``workers`` trials run at once, by default one on each device behind the line. ``watch`` gets the state now and then.

    Raises TapdotError for anything the user can act on; what was found until then is recorded.
    """
    import tapdot
    from tapdot.runtime.tuning.study import SAMPLERS
    from tapdot.runtime.tuning.tune import tune_package
    from tapdot.runtime.tuning.tuner import Options

    if sampler not in SAMPLERS:
        raise TapdotError(f"Expected a sampler among {', '.join(SAMPLERS)}, found {sampler!r}.")
    if trials < 1:
        raise TapdotError(f"Expected at least one trial, found {trials}.")
    where = tapdot.connect(device) if isinstance(device, str) else device
    options = Options(trials, sampler, seed, time_limit, trial_limit)
    if isinstance(model, str | os.PathLike) and Path(model).suffix == ".tapdot":
        model = Package.load(model)
    if not isinstance(model, Package):
        model = tapdot.compile(
            model,
            example_inputs,
            target=target or where.default_target(),
            recipe=recipe,
            data=data,
            zero_shot=zero_shot,
            shapes=shapes,
            settings=settings,
        )
    return tune_package(model, where, options, records=records, threads=threads, workers=workers, watch=watch)
