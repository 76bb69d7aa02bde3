"""The table of ``--per-layer``: where the time goes, and how near the device's limits each kernel is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from tapdot.runtime.layer_profile import KernelTime, Profile

ORDERS: dict[str, Callable[[KernelTime], float]] = {
    "time": lambda kernel: -kernel.seconds,
    "order": lambda kernel: 0,
    "limit": lambda kernel: kernel.share_of_limit,
}
"""Dearest first; as they run; furthest from its limit first."""
MARKS = ("copy", "conversion", "float island")


def print_profile(profile: Profile, console: Console, sort: str, top: int | None) -> None:
    """A row a kernel, the ``top`` first ones of the order ``sort``; below, sums and the limits."""
    kernels = sorted(profile.kernels, key=ORDERS[sort])
    shown = kernels[:top]
    marked = any(kernel.remark for kernel in shown)
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns: list[tuple[str, Any]] = [
        *(("kernel", "left"), ("family", "left"), ("us", "right"), ("share", "right"), ("rate", "right"), ("of limit", "right")),
        *([("", "left")] if marked else []),
    ]
    for name, justify in columns:
        table.add_column(name, justify=justify, overflow="fold", no_wrap=name != "kernel")
    for kernel in shown:
        table.add_row(*_row(kernel), *([kernel.remark] if marked else []))
    console.print(table)
    for line in _summary(profile, kernels[len(shown) :]):
        console.print(line, markup=False, soft_wrap=True)


def _row(kernel: KernelTime) -> list[str]:
    rate = f"{kernel.macs_per_second / 1e9:.1f} GMAC/s"
    if kernel.bound == "memory":
        rate = f"{kernel.bytes_per_second / 1e9:.1f} GB/s"
    family = kernel.family if kernel.fast else f"{kernel.family} (TVM)"
    return [kernel.node, family, f"{kernel.seconds * 1e6:.1f}", f"{kernel.share:.1%}", rate, f"{kernel.share_of_limit:.0%}"]


def _summary(profile: Profile, hidden: list[KernelTime]) -> list[str]:
    lines = []
    if hidden:
        lines.append(f"... and {len(hidden)} more, {sum(kernel.share for kernel in hidden):.1%} of the time")
    beside = f", {profile.sum / profile.whole:.0%} of the whole's {profile.whole * 1e3:.3f} ms" if profile.whole > 0 else ""
    lines.append(f"Sum of {len(profile.kernels)} kernels alone: {profile.sum * 1e3:.3f} ms{beside}.")
    marks = [f"{name} {profile.share_of(name):.1%}" for name in MARKS if profile.share_of(name)]
    if marks:
        lines.append(f"Of it: {', '.join(marks)}.")
    lines.append(
        "Rates are in GMAC/s where arithmetic is the nearer limit, in GB/s where memory is; pruned weights do not count."
    )
    return [*lines, f"Limits of {profile.limits.device} for {profile.limits.target} code, {profile.limits}."]
