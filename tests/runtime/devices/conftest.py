"""A phone for tests: the stand-in adb of ``examples``, on a folder of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

STAND_IN = Path(__file__).resolve().parents[3] / "examples" / "stand_in_phone" / "adb"


@dataclass(frozen=True)
class StandIn:
    """The stand-in adb with its phones below ``folder``."""

    folder: Path

    def adb(self, *arguments: str) -> str:
        environment = os.environ | {"STAND_IN_PHONE": str(self.folder)}
        return subprocess.run([STAND_IN, *arguments], check=True, capture_output=True, text=True, env=environment).stdout

    def plug(self, serial: str = "phone1", **settings: object) -> None:
        words = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in settings.items()]
        self.adb("stand-in", "plug", serial, *words)

    def unplug(self, serial: str = "phone1") -> None:
        self.adb("stand-in", "unplug", serial)

    def files(self, serial: str = "phone1") -> list[str]:
        """What lies in the phone's tapdot folder, besides weights."""
        folder = self.folder / "phones" / serial / "files" / "tapdot"
        found = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        return sorted(str(path) for path in found if path.parts[0] != "weights")

    def processes(self) -> list[str]:
        """Command lines of everything that runs for these phones: shells, agents, forwards."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            command = " ".join(process.info["cmdline"] or [])
            environment = " ".join((process.info["environ"] or {}).values())
            if str(self.folder) in command + environment and process.pid != os.getpid():
                found.append(command)
        return found

    def forwards(self) -> str:
        return self.adb("forward", "--list").strip()


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """No phone yet; ``plug`` one in."""
    folder = tmp_path / "stand-in"
    (folder / "phones").mkdir(parents=True)
    monkeypatch.setenv("STAND_IN_PHONE", str(folder))
    monkeypatch.setenv("ADB", str(STAND_IN))
    return StandIn(folder)
