"""The device ``adb`` or ``adb:SERIAL``: an Android phone on a cable.

A session puts the bundle on the phone where it is not there yet, starts an agent with a key of its own, and forwards a port to
it. The agent ends with the shell it was started in, which ends with this process; the forward goes with the session, or, when
the process was killed, with the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shlex
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tapdot.compiler.cache import cache_directory, lock_of, locked
from tapdot.compiler.errors import DeviceError
from tapdot.runtime.bundle import Bundle, build_bundle, check_bundle
from tapdot.runtime.devices.adb_tool import Adb, AdbFailed, find_adb
from tapdot.runtime.devices.agent_process import RunningAgent
from tapdot.runtime.devices.base import AgentAddress, Check, Device, Session
from tapdot.runtime.devices.connection import Connection
from tapdot.runtime.devices.remote import RemoteSession
from tapdot.runtime.devices.targets import target_for

FOLDER = "/data/local/tmp/tapdot"
"""Below the one folder of a phone from which the shell's user may run programs: bundles, weights, and sessions' folders."""
ABI = "arm64-v8a"
SPARE_MEBIBYTES = 32.0
"""Room asked for besides the bundle: a session's libraries."""
IDLE_DAYS = 7
"""After so many days without a session, the bundle of another version is removed from the phone."""
ABIS, MANUFACTURER, MODEL, EMULATOR = "ro.product.cpu.abilist", "ro.product.manufacturer", "ro.product.model", "ro.boot.qemu"


@dataclass(frozen=True)
class PhoneFacts:
    """What a phone's system says: the ABIs it runs, make and model, whether it is an emulator's, and free MiB (None: unsaid)."""

    abis: tuple[str, ...]
    machine: str
    emulated: bool
    free_mebibytes: float | None


class AdbDevice(Device):
    """A phone by its serial number, or the only one attached."""

    def __init__(self, serial: str | None = None) -> None:
        self.serial = serial
        self.line = "adb" if serial is None else f"adb:{serial}"

    def open(self, time_limit: float = 600.0) -> Session:
        with ExitStack() as resources:
            address = resources.enter_context(self.agent())
            connection = Connection(address.host, address.port, address.key, self.line, known=True, lost=address.lost)
            return AgentSession(connection, resources.pop_all(), time_limit)

    @contextmanager
    def agent(self, sessions: int = 4) -> Iterator[AgentAddress]:
        adb = self._ready()
        facts = phone_facts(adb)
        _check_abi(adb, facts)
        bundle = build_bundle("aarch64")
        folder = install(adb, bundle, facts)
        with ExitStack() as resources:
            agent = start_agent(adb, folder, bundle, facts, sessions)
            resources.callback(agent.stop)
            port = resources.enter_context(forwarded(adb, agent.port))
            yield AgentAddress("127.0.0.1", port, agent.key, lambda: adb.lost() or agent.ended())

    def default_target(self) -> str:
        """The target that fits what the phone reports. Asks it."""
        with self.open() as session:
            return target_for(session.information())

    def steps(self) -> Iterator[Check]:
        yield "adb", find_adb
        adb = Adb(find_adb(), self.serial)
        found: list[PhoneFacts] = []

        def authorised() -> str:
            phone = adb.choose()
            adb.serial = phone.serial
            return f"adb:{phone.serial} {phone.model}".strip() + " is attached and authorised"

        def processor() -> str:
            found.append(phone_facts(adb))
            _check_abi(adb, found[0])
            return f"{found[0].machine or 'the phone'} runs {', '.join(found[0].abis)}"

        def space() -> str:
            damaged, size = _missing(adb, build_bundle("aarch64"))
            _check_space(adb, build_bundle("aarch64"), found[0], size)
            needed = (
                f"{len(damaged)} files of the agent, {size / 2**20:.1f} MiB, are to be copied"
                if damaged
                else "the agent is there"
            )
            return f"{found[0].free_mebibytes or 0:.0f} MiB in {FOLDER}; {needed}"

        yield "phone", authorised
        yield "processor", processor
        yield "bundle", lambda: check_bundle("aarch64")
        yield "free space", space
        yield "agent on the phone", lambda: install(adb, build_bundle("aarch64"), found[0])
        yield "key", lambda: "made anew for each session, told to the agent over the cable"

    def _ready(self) -> Adb:
        adb = Adb(find_adb(), self.serial)
        adb.serial = adb.choose().serial
        return adb


class AgentSession(RemoteSession):
    """A session with an agent that was started for it; both end together."""

    def __init__(self, connection: Connection, resources: ExitStack, time_limit: float) -> None:
        self._resources = resources
        super().__init__(connection, time_limit)

    def close(self) -> None:
        super().close()
        self._resources.close()


def phone_facts(adb: Adb) -> PhoneFacts:
    """Asks a phone's system. Takes one command."""
    names = (ABIS, "ro.product.cpu.abi", MANUFACTURER, MODEL, EMULATOR, "ro.kernel.qemu")
    questions = "; ".join(f"getprop {name}" for name in names)
    told = adb.shell(f"mkdir -p {FOLDER}; {questions}; df -k {FOLDER}", doing="Asking the phone about itself").splitlines()
    if len(told) < len(names):
        raise DeviceError(f"The phone adb:{adb.serial} did not say what it is; it answered: {' '.join(told) or 'nothing'}.")
    abis, abi, manufacturer, model, *emulator = (line.strip() for line in told[: len(names)])
    machine = model if model.lower().startswith(manufacturer.lower()) else f"{manufacturer} {model}"
    return PhoneFacts(
        tuple((abis or abi).split(",")),
        machine.strip(),
        "1" in emulator,
        parse_free_mebibytes(told[len(names) :]),
    )


def parse_free_mebibytes(table: list[str]) -> float | None:
    """The room that ``df -k`` tells in its last line, where that ends in used, available, a share and a place."""
    if table and (found := re.search(r"\s(\d+)\s+\d+%\s+\S+\s*$", table[-1])):
        return int(found[1]) / 1024
    return None


def _check_abi(adb: Adb, facts: PhoneFacts) -> None:
    if ABI not in facts.abis:
        raise DeviceError(
            f"The phone adb:{adb.serial} runs programs for {', '.join(facts.abis)}, and tapdot's agent for Android is for {ABI} "
            f"only. Use a 64-bit ARM phone."
        )


def _check_space(adb: Adb, bundle: Bundle, facts: PhoneFacts, size: int) -> None:
    """Raises DeviceError where there is no room for ``size`` bytes, even without what nobody uses."""
    needed, free = size / 2**20 + SPARE_MEBIBYTES, facts.free_mebibytes
    if free is not None and free < needed:
        _remove_bundles(adb, bundle, idle_days=0)
        free = phone_facts(adb).free_mebibytes
    if free is not None and free < needed:
        raise DeviceError(
            f"The phone adb:{adb.serial} has {free:.0f} MiB free, and the agent needs {needed:.0f} MiB in "
            f"{FOLDER}. Free some space there; weights of earlier sessions go with: adb shell rm -r {FOLDER}/weights"
        )


# -- the bundle -------------------------------------------------------------------------------------------------------------


def _folder_of(bundle: Bundle) -> str:
    return f"{FOLDER}/bundles/{bundle.directory.name}"


def _missing(adb: Adb, bundle: Bundle) -> tuple[list[Path], int]:
    """The files of a bundle that are not on the phone, or differ there, and their size in bytes."""
    told = adb.shell(f"cd {_folder_of(bundle)} 2>/dev/null && sha256sum * || true", doing="Looking for the agent on the phone")
    there = {name: digest for digest, name in (line.split(maxsplit=1) for line in told.splitlines() if line.count(" ") >= 1)}
    missing = [bundle.directory / name for name, digest in sorted(bundle.digests().items()) if there.get(name) != digest]
    return missing, sum(file.stat().st_size for file in missing)


def _remove_bundles(adb: Adb, bundle: Bundle, idle_days: int = IDLE_DAYS) -> None:
    """Removes bundles of other versions that were not used for so many days, and that no agent runs from.

    An agent works in its bundle's folder, and says by that folder's time that it was used; see :func:`start_agent`.
    """
    old = f"-mtime +{idle_days - 1}" if idle_days else ""
    command = (
        f"cd {FOLDER}/bundles 2>/dev/null || exit 0; used=$(ls -l /proc/[0-9]*/cwd 2>/dev/null); "
        f"for name in $(find . -mindepth 1 -maxdepth 1 -type d {old} ! -name {bundle.directory.name} 2>/dev/null); do "
        f'case "$used" in *"/tapdot/bundles/${{name#./}}"*) ;; *) rm -rf "$name" ;; esac; done; true'
    )
    with suppress(AdbFailed):  # they are in nobody's way
        adb.shell(command, doing="Removing old agents from the phone")


def install(adb: Adb, bundle: Bundle, facts: PhoneFacts) -> str:
    """The folder of the phone that holds the bundle, whose missing or damaged files are copied there first.

    Files arrive in a folder of their own and are then renamed, so an agent that runs is never written over and a file that is
    there is whole. What a transfer that was cut short left goes before the next.
    """
    folder = _folder_of(bundle)
    arriving = f"{FOLDER}/arriving-{uuid.getnode():012x}"
    lock = lock_of(cache_directory() / f"adb-{_file_name(str(adb.serial))}")
    with locked(lock):
        missing, size = _missing(adb, bundle)
        _remove_bundles(adb, bundle)
        if not missing:
            return folder
        _check_space(adb, bundle, facts, size)
        doing = "Copying the agent to the phone"
        adb.shell(f"umask 077; rm -rf {arriving} && mkdir -p {folder} {arriving}", doing=doing)
        try:
            adb.push(missing, arriving, doing=doing)
            adb.shell(f"cd {arriving} && chmod 700 * && mv -f * {folder}/", doing=doing)
            if _missing(adb, bundle)[0]:
                raise DeviceError(f"The agent arrived damaged on adb:{adb.serial}. Check the cable and try again.")
        except AdbFailed as error:
            if "No space left" in error.text:
                raise DeviceError(
                    f"The disk of adb:{adb.serial} became full while the agent was copied there, which takes {size / 2**20:.0f} "
                    f"MiB. Free some space on the phone."
                ) from error
            raise
        finally:
            with suppress(DeviceError):  # a phone that is gone; its next session begins with the same
                adb.shell(f"rm -rf {arriving}", doing=doing)
    return folder


def start_agent(adb: Adb, folder: str, bundle: Bundle, facts: PhoneFacts, sessions: int) -> RunningAgent:
    """An agent on the phone. Its key is random and reaches it through its standard input, which nobody else on the phone sees."""
    key = secrets.token_hex(16)
    loader, *arguments = (part.replace(str(bundle.directory), ".") for part in bundle.command("tapdot-agent"))
    options = ["--port", "0", "--exit-with-stdin", "--directory", f"{FOLDER}/sessions", "--cache", f"{FOLDER}/weights"]
    options += ["--sessions", str(sessions)]
    options += ["--machine", facts.machine] if facts.machine else []
    options += ["--emulated"] if facts.emulated else []
    words = [loader, *arguments, *options]
    command = f"cd {folder} && touch . && IFS= read -r TAPDOT_KEY && export TAPDOT_KEY && exec {shlex.join(words)}"
    try:
        return RunningAgent(adb.shell_command(command), key, first_line=f"{key}\n")
    except DeviceError as error:
        if (lost := adb.lost()) is not None:
            raise DeviceError(f"Starting the agent failed: {lost}") from error
        raise DeviceError(f"{error} It was started on adb:{adb.serial} in {folder}.") from error


# -- the forwarded port -----------------------------------------------------------------------------------------------------


@contextmanager
def forwarded(adb: Adb, port: int) -> Iterator[int]:
    """A port of this machine that leads to a port of the phone for as long as the ``with`` lasts.

    adb's server keeps forwards for ever, so each is on record in a file that its process holds a lock on: of processes that
    were killed, the next one removes them.
    """
    folder = cache_directory() / "adb-forwards"
    folder.mkdir(exist_ok=True)
    _sweep_forwards(adb, folder)
    record = folder / f"{_file_name(str(adb.serial))}-{port}"
    unfinished = record.with_name(f".{record.name}-{os.getpid()}")
    with open(unfinished, "w") as file:
        json.dump({"serial": adb.serial, "port": port}, file)
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        unfinished.rename(record)
        local = None
        try:
            local = int(adb.run("forward", "tcp:0", f"tcp:{port}", doing="Forwarding a port to the phone"))
            yield local
        finally:
            if local is not None:
                with suppress(DeviceError):  # a phone that is gone took it along
                    adb.run("forward", "--remove", f"tcp:{local}", doing="Removing the forwarded port")
            record.unlink(missing_ok=True)


def _sweep_forwards(adb: Adb, folder: Path) -> None:
    """Removes this phone's forwards whose processes are gone."""
    for record in folder.glob(f"{_file_name(str(adb.serial))}-*"):
        with suppress(OSError, ValueError), open(record) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remote = f"tcp:{json.load(file)['port']}"
            for line in adb.run("forward", "--list", doing="Listing forwarded ports").splitlines():
                words = line.split()
                if words[:1] == [adb.serial] and words[2:] == [remote]:
                    with suppress(DeviceError):
                        adb.run("forward", "--remove", words[1], doing="Removing a forwarded port")
            record.unlink(missing_ok=True)


def _file_name(serial: str) -> str:
    """A serial number, which may be an address, as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", serial)
