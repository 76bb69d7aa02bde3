"""A stand-in for ``adb`` and a phone: the phone's files are a folder here, its programs run under QEMU.

    PATH=$PWD/examples/stand_in_phone:$PATH tapdot doctor --device adb

It speaks as adb 1.0.41 does: ``devices``, ``get-state``, ``shell``, ``push``, ``forward``. Its phones live below
``STAND_IN_PHONE`` (``~/.cache/stand-in-phone`` unless set), one to begin with, and further commands do to them what happens to
phones:

    adb stand-in plug SERIAL [NAME=VALUE ...]      plugs a phone in, new or known; settings as in ``Settings``
    adb stand-in unplug SERIAL                     pulls its cable: shells, forwards and transfers end
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

FILES = "/data/local/tmp"
"""The one folder of a phone that exists here."""
POLL_SECONDS = 0.05
CHUNK_BYTES, TRANSFER_BYTES = 2**16, 2**20
LOADER = re.compile(r"(^|[;&|]\s*|exec\s+)(\S*ld-linux-aarch64\.so\.1)\b")
"""How aarch64 programs are started; only QEMU can, here."""
PLENTY_BYTES = 2**30


class AdbError(Exception):
    """What adb prints before it exits with status 1."""


@dataclass(frozen=True)
class Settings:
    """A phone's state. ``state`` is adb's word: ``device``, ``unauthorized`` or ``offline``; ``unplugged`` is not listed at all.

    ``unplug_after_bytes`` pulls the cable in a push that has transferred so much.
    """

    state: str = "device"
    model: str = "Stand_in"
    abi: str = "arm64-v8a"
    cpu: str = "cortex-a76"
    disk_mebibytes: float = 2048.0
    unplug_after_bytes: int | None = None

    def properties(self) -> dict[str, str]:
        """What the phone's ``getprop`` says."""
        return {
            "ro.product.cpu.abi": self.abi,
            "ro.product.cpu.abilist": self.abi,
            "ro.product.manufacturer": "tapdot",
            "ro.product.model": self.model.replace("_", " "),
            "ro.boot.qemu": "1",
        }


class Phone:
    """A phone by its serial number."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.folder = _home() / "phones" / serial
        self.files = self.folder / "files"

    @property
    def settings(self) -> Settings:
        return Settings(**json.loads((self.folder / "settings.json").read_text()))

    def set(self, **changes: object) -> None:
        """Changes settings; creates the phone if it is new."""
        known = asdict(self.settings) if (self.folder / "settings.json").exists() else asdict(Settings())
        tools = self.folder / "bin"
        tools.mkdir(parents=True, exist_ok=True)
        self.files.mkdir(exist_ok=True)
        settings = Settings(**(known | changes))  # type: ignore[arg-type]
        cases = "\n".join(f"{name}) echo '{value}' ;;" for name, value in settings.properties().items())
        this = Path(__file__).resolve()
        for file, text in (
            (tools / "getprop", f'#!/bin/sh\ncase "$1" in\n{cases}\n*) echo ;;\nesac\n'),
            (tools / "df", f'#!/bin/sh\nexec "{sys.executable}" -I "{this}" df {self.serial}\n'),
            (self.folder / "settings.json", json.dumps(asdict(settings))),
        ):
            unfinished = self.folder / f"unfinished.{os.getpid()}"
            unfinished.write_text(text)
            unfinished.chmod(0o755)
            unfinished.rename(file)

    @property
    def plugged(self) -> bool:
        return self.settings.state == "device"

    def free_bytes(self) -> int:
        used = sum(path.stat().st_size for path in self.files.rglob("*") if path.is_file() and not path.is_symlink())
        return max(0, int(self.settings.disk_mebibytes * 2**20) - used)

    def here(self, text: str) -> str:
        """The phone's paths in a text as paths of this machine."""
        return text.replace(FILES, str(self.files))


def _home() -> Path:
    chosen = os.environ.get("STAND_IN_PHONE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stand-in-phone"


def phones() -> list[Phone]:
    """All that are plugged in; the very first call finds one new phone."""
    folder = _home() / "phones"
    if not folder.is_dir():
        Phone("standin1").set()
    known = [Phone(path.name) for path in sorted(folder.iterdir()) if (path / "settings.json").exists()]
    return [phone for phone in known if phone.settings.state != "unplugged"]


def choose(serial: str | None) -> Phone:
    """The phone a command is for. Raises AdbError as adb would."""
    found = phones()
    if serial is None:
        if not found:
            raise AdbError("error: no devices/emulators found")
        if len(found) > 1:
            raise AdbError("error: more than one device/emulator")
        phone = found[0]
    else:
        named = [phone for phone in found if phone.serial == serial]
        if not named:
            raise AdbError(f"error: device '{serial}' not found")
        phone = named[0]
    state = phone.settings.state
    if state == "unauthorized":
        raise AdbError(
            "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n"
            "Try 'adb kill-server' if that seems wrong.\nOtherwise check for a confirmation dialog on your device."
        )
    if state != "device":
        raise AdbError(f"error: device {state}")
    return phone


# -- shell ------------------------------------------------------------------------------------------------------------------


def shell(phone: Phone, command: str) -> int:
    """Runs a command line on the phone; its standard input ends with ours, or when the cable is pulled."""
    emulator = shutil.which("qemu-aarch64")
    if LOADER.search(command) and emulator is None:
        raise AdbError("the stand-in phone needs qemu-aarch64 for its programs. Run: apt install qemu-user")
    free = phone.free_bytes()

    def keep_to_the_disk() -> None:
        if free < PLENTY_BYTES:
            resource.setrlimit(resource.RLIMIT_FSIZE, (free, free))

    text = LOADER.sub(rf"\1{emulator} -cpu {phone.settings.cpu} \2", phone.here(command))
    process = subprocess.Popen(
        ["/bin/sh", "-c", text],
        stdin=subprocess.PIPE,
        cwd=phone.files,
        env={"PATH": f"{phone.folder / 'bin'}:/usr/bin:/bin", "STAND_IN_PHONE": str(_home())},
        start_new_session=True,
        preexec_fn=keep_to_the_disk,
    )
    assert process.stdin is not None
    ended = os.pidfd_open(process.pid)
    sources = [ended, 0]
    while True:
        ready, _, _ = select.select(sources, [], [], POLL_SECONDS)
        if ended in ready:
            status = process.wait()
            return status if status >= 0 else 128 - status
        if 0 in ready:
            chunk = os.read(0, CHUNK_BYTES)
            try:
                if chunk:
                    os.write(process.stdin.fileno(), chunk)
                else:
                    process.stdin.close()
                    sources.remove(0)
            except BrokenPipeError:
                sources.remove(0)
        if not phone.plugged:
            return 255  # and with us the other end of its standard input goes


def disk(phone: Phone) -> int:
    """The phone's ``df``."""
    settings = phone.settings
    total, free = int(settings.disk_mebibytes * 1024), phone.free_bytes() // 1024
    print("Filesystem     1K-blocks    Used Available Use% Mounted on")
    print(f"/dev/block/dm-5 {total} {total - free} {free} {100 - 100 * free // max(1, total)}% /data/user/0")
    return 0


# -- push -------------------------------------------------------------------------------------------------------------------


def push(phone: Phone, sources: list[str], target: str) -> int:
    """Copies files to the phone."""
    place = Path(phone.here(target))
    limit, sent = phone.settings.unplug_after_bytes, 0
    for name in sources:
        copy = place / Path(name).name if place.is_dir() else place
        try:
            with open(name, "rb") as source, open(copy, "wb") as written:
                while chunk := source.read(TRANSFER_BYTES):
                    if len(chunk) > phone.free_bytes():
                        raise AdbError(f"adb: error: failed to copy '{name}' to '{target}': remote No space left on device")
                    written.write(chunk)
                    written.flush()
                    sent += len(chunk)
                    if limit is not None and sent >= limit:
                        phone.set(state="unplugged", unplug_after_bytes=None)
                    if not phone.plugged:
                        raise AdbError(
                            f"adb: error: failed to copy '{name}' to '{target}': no response: Connection reset by peer"
                        )
            shutil.copymode(name, copy)
        except OSError as error:
            raise AdbError(f"adb: error: failed to copy '{name}' to '{target}': {error.strerror}") from error
    print(f"{len(sources)} files pushed, 0 skipped. 100.0 MB/s ({sent} bytes in 0.1s)")
    return 0


# -- forward ----------------------------------------------------------------------------------------------------------------


def forward(serial: str | None, arguments: list[str]) -> int:
    """Ports here that lead to ports of a phone. Each is a process of its own that ends with the file that records it."""
    folder = _home() / "forwards"
    folder.mkdir(parents=True, exist_ok=True)
    if arguments == ["--list"]:
        for record in sorted(folder.iterdir()):
            facts = json.loads(record.read_text())
            print(f"{facts['serial']} tcp:{record.name} tcp:{facts['remote']}")
        return 0
    phone = choose(serial)
    if arguments[:1] == ["--remove"]:
        record = folder / arguments[1].removeprefix("tcp:")
        if not record.exists():
            raise AdbError(f"adb: error: listener '{arguments[1]}' not found")
        record.unlink()
        return 0
    local, remote = (int(argument.removeprefix("tcp:")) for argument in arguments)
    try:
        listener = socket.create_server(("127.0.0.1", local))
    except OSError as error:
        raise AdbError(f"adb: error: cannot bind listener: {error.strerror}") from error
    record = folder / str(listener.getsockname()[1])
    record.write_text(json.dumps({"serial": phone.serial, "remote": remote}))
    subprocess.Popen(
        [
            *(sys.executable, "-I", str(Path(__file__).resolve()), "forwarder"),
            *(phone.serial, str(record), str(listener.fileno()), str(remote)),
        ],
        pass_fds=[listener.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    if local == 0:
        print(record.name)
    return 0


def forwarder(phone: Phone, record: Path, listener: socket.socket, remote: int) -> int:
    """Carries bytes until its record or the cable is gone."""
    partners: dict[socket.socket, socket.socket] = {}

    def leave(one: socket.socket) -> None:
        other = partners.pop(one, None)
        one.close()
        if other is not None:
            leave(other)

    checked = time.monotonic()
    while True:
        ready, _, _ = select.select([listener, *partners], [], [], POLL_SECONDS)
        if time.monotonic() > checked + POLL_SECONDS:
            checked = time.monotonic()
            if not record.exists() or not phone.plugged:
                record.unlink(missing_ok=True)
                return 0
        for one in ready:
            if one is listener:
                near = listener.accept()[0]
                try:
                    far = socket.create_connection(("127.0.0.1", remote), timeout=5)
                except OSError:
                    near.close()
                    continue
                for end in (near, far):
                    end.settimeout(30)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                partners[near], partners[far] = far, near
            elif one in partners:
                try:
                    chunk = one.recv(CHUNK_BYTES)
                    if chunk:
                        partners[one].sendall(chunk)
                except OSError:
                    chunk = b""
                if not chunk:
                    leave(one)


# -- the command line -------------------------------------------------------------------------------------------------------


def stand_in(arguments: list[str]) -> int:
    """What happens to a phone: ``plug SERIAL [NAME=VALUE ...]``, ``unplug SERIAL``."""
    if len(arguments) < 2 or arguments[0] not in ("plug", "unplug"):
        raise AdbError("usage: adb stand-in plug SERIAL [NAME=VALUE ...] | unplug SERIAL")
    changes: dict[str, object] = {"state": "device" if arguments[0] == "plug" else "unplugged"}
    kinds = {field.name: field.type for field in fields(Settings)}
    for argument in arguments[2:]:
        name, _, value = argument.partition("=")
        if name not in kinds:
            raise AdbError(f"a phone has no setting {name}; it has {', '.join(kinds)}")
        changes[name] = value if kinds[name] == "str" else json.loads(value)
    Phone(arguments[1]).set(**changes)
    return 0


def devices(long: bool) -> int:
    """What is plugged in."""
    print("List of devices attached")
    for number, phone in enumerate(phones(), 1):
        settings = phone.settings
        known = f"product:stand_in model:{settings.model} device:stand_in " if settings.state == "device" else ""
        further = f" {known}transport_id:{number}" if long else ""
        print(f"{phone.serial:<22} {settings.state}{further}" if long else f"{phone.serial}\t{settings.state}")
    print()
    return 0


def main(arguments: list[str]) -> int:
    """adb's exit status."""
    serial = None
    if arguments[:1] == ["-s"]:
        serial, arguments = arguments[1], arguments[2:]
    if not arguments:
        raise AdbError("adb: usage: a command is missing; the stand-in knows devices, get-state, shell, push, forward, stand-in")
    command, *rest = arguments
    if command == "version":
        print("Android Debug Bridge version 1.0.41\nStand-in: its phones are folders")
    elif command in ("start-server", "kill-server"):
        pass
    elif command == "devices":
        return devices("-l" in rest)
    elif command == "get-state":
        choose(serial)
        print("device")
    elif command == "shell":
        options = [option for option in rest if option in ("-T", "-n", "-x")]
        return shell(choose(serial), " ".join(rest[len(options) :]))
    elif command == "push":
        return push(choose(serial), rest[:-1], rest[-1])
    elif command == "forward":
        return forward(serial, rest)
    elif command == "stand-in":
        return stand_in(rest)
    elif command == "df":
        return disk(Phone(rest[0]))
    elif command == "forwarder":
        return forwarder(Phone(rest[0]), Path(rest[1]), socket.socket(fileno=int(rest[2])), int(rest[3]))
    else:
        raise AdbError(f"adb: unknown command {command}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AdbError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
