"""``tapdot devices``, ``tapdot doctor``, ``tapdot bundle``, ``tapdot tracker`` and ``tapdot serve``."""

from __future__ import annotations

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tapdot.cli.checks import check_device, check_writable
from tapdot.cli.options import DeviceOption, JsonOption
from tapdot.cli.output import print_json, table_console
from tapdot.cli.progress import progress


def devices_command(
    targets: Annotated[bool, typer.Option("--targets", help="List targets instead.")] = False, as_json: JsonOption = False
) -> None:
    """Lists what is reachable from here."""
    from tapdot.cli.tables import device_table, target_table

    table = target_table() if targets else device_table()
    if as_json:
        print_json(table.rows)
    else:
        table_console().print(table.rich())


def doctor_command(device: DeviceOption = "host", as_json: JsonOption = False) -> None:
    """Checks every step of reaching a device and says what to do at the first that fails."""
    check_device(device)
    from tapdot.cli.tables import print_steps, steps_json
    from tapdot.runtime.doctor import doctor

    with progress.status(f"Examining {device}"):
        steps = doctor(device)
    if as_json:
        print_json(steps_json(steps))
    else:
        print_steps(steps, Console(highlight=False))
    if not all(step.passed for step in steps):
        raise SystemExit(1)


def bundle_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.")],
    architecture: Annotated[
        str, typer.Option("--architecture", help="aarch64 or x86_64: the processor of the device.")
    ] = "aarch64",
) -> None:
    """Writes everything the agent needs on a device into a folder, and says how to start it there."""
    from tapdot.compiler.errors import TapdotError
    from tapdot.runtime.bundle import build_bundle

    if architecture not in ("aarch64", "x86_64"):
        raise typer.BadParameter(f"expected aarch64 or x86_64, found {architecture!r}", param_hint="--architecture")
    if folder.exists():
        raise TapdotError(f"{folder} exists already; give the name of a folder to make.")
    check_writable(folder)
    with progress.status(f"Building the agent for {architecture}"):
        built = build_bundle(architecture)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        shutil.copytree(built.directory, unfinished)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    start = " ".join(part.replace(str(built.directory), ".") for part in built.command("tapdot-agent"))
    typer.echo(f"Copy {folder} to the device, then there: cd {folder.name} && TAPDOT_KEY=SECRET {start} --port 9190")
    typer.echo("Here: ssh -N -L 9190:127.0.0.1:9190 DEVICE (a phone on a cable needs none of this: --device adb)")
    typer.echo("Then: TAPDOT_KEY=SECRET tapdot doctor --device rpc://127.0.0.1:9190")


def tracker_command(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; it hands devices to whoever asks.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", metavar="PORT", min=0, max=65535, help="0 lets the system choose.")] = 9190,
) -> None:
    """Runs a tracker, which queues requests for the devices of a shelf; TVM's clients and servers may use it, too."""
    import asyncio

    from tapdot.runtime.devices.sockets import address_text
    from tapdot.runtime.tracker import track

    def ready(address: str, chosen: int) -> None:
        typer.echo(f"tracker at {address_text(address, chosen)}; end it with Ctrl-C")
        sys.stdout.flush()

    with suppress(KeyboardInterrupt):
        asyncio.run(track(host, port, ready))


def serve_command(
    device: Annotated[list[str], typer.Option("--device", metavar="DEVICE", help="A device to serve; may be repeated.")],
    key: Annotated[str, typer.Option("--key", metavar="KEY", help="What clients ask the tracker for: tracker://HOST:PORT/KEY.")],
    tracker: Annotated[str, typer.Option("--tracker", metavar="HOST:PORT", help="The tracker to offer them to.")] = (
        "127.0.0.1:9190"
    ),
    listen: Annotated[str, typer.Option("--listen", metavar="ADDRESS", help="Where clients come.")] = "127.0.0.1",
    announce: Annotated[
        str | None, typer.Option("--announce", metavar="ADDRESS", help="What clients are told [the address the tracker sees].")
    ] = None,
) -> None:
    """Puts devices on a tracker's shelf, where clients queue for them, until Ctrl-C."""
    for line in device:
        check_device(line)
    host, _, port = tracker.rpartition(":")
    if not host or not port.isdigit() or not 1 <= int(port) <= 65535:
        raise typer.BadParameter(f"expected HOST:PORT, found {tracker!r}", param_hint="--tracker")
    check_device(f"tracker://{tracker}/{key}")
    from tapdot.runtime.devices import connect
    from tapdot.runtime.shelf import Place, ServedDevice, serve_all

    place = Place(host.strip("[]"), int(port), key, listen, announce)
    serve_all(
        [ServedDevice(connect(line), place, lambda text: progress.print(text, markup=False, soft_wrap=True)) for line in device]
    )
