"""Android's ``adb`` as this project uses it: every command under a time limit, every failure a sentence about the phone.

What its words mean was read off adb 1.0.41; see ``adb help`` and Android's documentation of the Debug Bridge.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tapdot.compiler.errors import DeviceError

COMMAND_SECONDS = 30.0
"""Starting adb's server takes a second or two; nothing else that passes through here takes as long."""
TRANSFER_BYTES_PER_SECOND = 2**18
"""The slowest cable a transfer is waited for."""
READY = "device"
"""adb's word for a phone that can be used."""

_REMEDIES = {
    "unauthorized": "Unlock it and allow USB debugging in the dialog it shows; if it shows none, pull the cable and plug it in "
    "again, or revoke the authorisations in its developer options.",
    "authorizing": "Wait a moment, or unlock it and allow USB debugging in the dialog it shows.",
    "offline": "Pull the cable and plug it in again; if that does not help, run: adb kill-server",
    "no permissions": "This user may not use it over USB: install Android's udev rules (apt install "
    "android-sdk-platform-tools-common), then plug it in again.",
}
_OTHER_REMEDY = "Start Android on it."
NO_PHONE = (
    "No phone is attached. Plug one in whose developer options have USB debugging switched on (or: adb connect HOST:PORT); for "
    "one made of a folder and QEMU, put examples/stand_in_phone into PATH."
)


@dataclass(frozen=True)
class AttachedPhone:
    """A line of ``adb devices -l``: the serial number, adb's word for its state, and the model where it is known."""

    serial: str
    state: str
    model: str = ""


class AdbFailed(DeviceError):
    """An adb command that failed for a reason adb gave; ``text`` is what it printed."""

    def __init__(self, sentence: str, text: str) -> None:
        super().__init__(sentence)
        self.text = text


def find_adb() -> str:
    """Path of adb: ``ADB``, else below ``ANDROID_HOME`` or ``ANDROID_SDK_ROOT``, else on ``PATH``. Raises DeviceError if none."""
    if chosen := os.environ.get("ADB"):
        if found := shutil.which(chosen):
            return found
        raise DeviceError(f"ADB is {chosen}, which is no program. Set it to the path of adb, or unset it.")
    for variable in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        if folder := os.environ.get(variable):
            program = Path(folder) / "platform-tools" / "adb"
            if os.access(program, os.X_OK):
                return str(program)
    if found := shutil.which("adb"):
        return found
    raise DeviceError(
        "A phone on a cable needs adb, which is not installed. Run: apt install adb (or install Android's platform-tools and set "
        "ANDROID_HOME)."
    )


def parse_phones(listing: str) -> list[AttachedPhone]:
    """The phones in what ``adb devices -l`` prints."""
    phones = []
    for line in listing.splitlines():
        serial, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if not rest or line.startswith(("*", "List of devices")):
            continue
        state = "no permissions" if rest.startswith("no permissions") else rest.split()[0]
        model = next((word.removeprefix("model:") for word in rest.split() if word.startswith("model:")), "")
        phones.append(AttachedPhone(serial, state, model.replace("_", " ")))
    return phones


class Adb:
    """The program, and the phone it is for: one by its serial number, or the only one there is."""

    def __init__(self, program: str, serial: str | None = None) -> None:
        self.program = program
        self.serial = serial

    def attached(self) -> list[AttachedPhone]:
        """Every phone adb sees, ready or not."""
        return parse_phones(self._finish(["devices", "-l"], COMMAND_SECONDS))

    def choose(self) -> AttachedPhone:
        """The phone, which must be ready. Raises DeviceError for none, for several without a choice, and for one that is not."""
        phones = self.attached()
        if self.serial is None:
            if not phones:
                raise DeviceError(NO_PHONE)
            if len(phones) > 1:
                lines = ", ".join(f"adb:{phone.serial}" for phone in phones)
                raise DeviceError(f"{len(phones)} phones are attached; say which, as one of: {lines}.")
            phone = phones[0]
        else:
            named = [phone for phone in phones if phone.serial == self.serial]
            if not named:
                others = ", ".join(f"adb:{phone.serial}" for phone in phones)
                there = f"Attached are: {others}." if others else NO_PHONE
                raise DeviceError(f"No phone with the serial number {self.serial} is attached. {there}")
            phone = named[0]
        if phone.state != READY:
            remedy = _REMEDIES.get(phone.state, _OTHER_REMEDY)
            raise DeviceError(f"The phone adb:{phone.serial} is attached, and adb calls it '{phone.state}'. {remedy}")
        return phone

    def run(self, *arguments: str, doing: str, seconds: float = COMMAND_SECONDS) -> str:
        """What a command for the phone prints. Raises DeviceError, about the phone if it is gone, else with adb's own words."""
        assert self.serial is not None
        try:
            return self._finish(["-s", self.serial, *arguments], seconds)
        except AdbFailed as error:
            if (lost := self.lost()) is not None:
                raise DeviceError(f"{doing} failed: {lost}") from error
            raise AdbFailed(f"{doing} failed on adb:{self.serial}: {error}", error.text) from error

    def shell(self, command: str, doing: str) -> str:
        """What a command line prints on the phone, where it must succeed."""
        return self.run("shell", "-n", command, doing=doing)

    def shell_command(self, command: str) -> list[str]:
        """The command that runs a line on the phone, with its standard streams here, for as long as it takes."""
        assert self.serial is not None
        return [self.program, "-s", self.serial, "shell", "-T", command]

    def push(self, files: Sequence[Path], folder: str, doing: str) -> None:
        """Copies files into a folder of the phone."""
        size = sum(file.stat().st_size for file in files)
        seconds = COMMAND_SECONDS + size / TRANSFER_BYTES_PER_SECOND
        self.run("push", *map(str, files), folder + "/", doing=doing, seconds=seconds)

    def lost(self) -> str | None:
        """A sentence about a phone that is not ready any more; None while it is."""
        try:
            self.choose()
        except DeviceError as error:
            return f"the phone adb:{self.serial} was unplugged, or lost its connection, on the way. {error}"
        return None

    def _finish(self, arguments: Sequence[str], seconds: float) -> str:
        try:
            done = subprocess.run(
                [self.program, *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=seconds,
                start_new_session=True,  # Ctrl-C is ours to handle, and adb's server must outlive it
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AdbFailed(
                f"adb did not finish within {seconds:.0f} s. Look at the phone's screen, or run: adb kill-server", ""
            ) from error
        except OSError as error:
            raise DeviceError(f"{self.program} cannot be started ({error.strerror}). Set ADB to the path of adb.") from error
        if done.returncode != 0:
            text = done.stderr.strip() or done.stdout.strip()
            reason = text.splitlines()[0].removeprefix("adb: ").removeprefix("error: ") if text else ""
            raise AdbFailed(f"{reason or f'adb ended with status {done.returncode}'}.", text)
        return done.stdout
