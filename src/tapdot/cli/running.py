"""``tapdot run`` and ``tapdot verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tapdot.cli.checks import check_device, check_writable
from tapdot.cli.options import DeviceOption, JsonOption, PackageArgument
from tapdot.cli.output import print_json
from tapdot.cli.progress import progress


def run_command(
    package: PackageArgument,
    inputs: Annotated[Path, typer.Option("--input", metavar="FILE", help="An .npz file with one array for each input, by name.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The .npz file to write.")],
    device: DeviceOption = "host",
) -> None:
    """Runs a package once on arrays from a file."""
    import tapdot
    from tapdot.runtime.arrays import names_of_not_finite, read_arrays, write_arrays

    check_writable(output)
    check_device(device)
    loaded = tapdot.load(package)
    arrays = read_arrays(inputs, loaded)
    for name in names_of_not_finite(arrays):
        progress.print(
            f"Note: the input {name!r} holds NaN or infinities; codes have neither, so int8 packages read them as numbers."
        )
    write_arrays(output, tapdot.connect(device).run(loaded, arrays))
    progress.print(f"Wrote {output}")


def verify_command(package: PackageArgument, device: DeviceOption = "host", as_json: JsonOption = False) -> None:
    """Compares a package with its reference on a device: kernel by kernel, then the whole."""
    import tapdot

    check_device(device)
    loaded = tapdot.load(package)
    with progress.status(f"Verifying on {device}"):
        result = tapdot.connect(device).verify(loaded)
    if as_json:
        print_json(result.json())
    else:
        typer.echo(str(result))
    if not result.passed:
        raise SystemExit(1)
