"""The process in which kernels run on this machine: a crash or a hang ends it and nothing else.

It reads a job a line from its standard input and answers each with a line: plain JSON, arrays in ``.npy`` files. It ends with its
input, and then removes the folder of these files, which it was given; and at a job's deadline by the system's alarm clock: no
kernel that hangs outlives the tuner.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tapdot.compiler.errors import TapdotError
from tapdot.runtime.devices.base import Session
from tapdot.runtime.tuning.timing import Loaded, set_up_threads, time_in_turns, time_kernel


def main() -> None:
    """Serves jobs until the input ends."""
    from tapdot.runtime.devices.host import HostDevice

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    with HostDevice().open() as session:
        tell(answers, {"ready": True})
        for line in sys.stdin:
            job = json.loads(line)
            signal.alarm(int(job["limit"]) + 2)  # the alarm's own action ends the process, whatever holds Python up
            try:
                answer = serve(session, job)
            except TapdotError as error:
                answer = {"error": str(error)}
            signal.alarm(0)
            tell(answers, answer)
    shutil.rmtree(sys.argv[1], ignore_errors=True)


def tell(answers: TextIO, answer: dict[str, Any]) -> None:
    """One answer."""
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def serve(session: Session, job: dict[str, Any]) -> dict[str, Any]:
    """One job: a kernel's results and times, or the times of several in turns."""
    if "threads" in job:
        set_up_threads(session, job["threads"])
        return {}
    kernels = [load(session, kernel) for kernel in job["kernels"]]
    if "rounds" in job:
        return {"samples": time_in_turns(kernels, job["rounds"])}
    for place, result in zip(job["results"], kernels[0].run(), strict=True):
        np.save(place, result, allow_pickle=False)
    return {"samples": time_kernel(kernels[0], job["best"])}


def load(session: Session, kernel: dict[str, Any]) -> Loaded:
    """A kernel whose arrays lie in files."""
    packed, inputs = ([np.load(place, allow_pickle=False) for place in kernel[name]] for name in ("packed", "inputs"))
    return Loaded.load(session, Path(kernel["library"]), kernel["symbol"], packed, inputs, kernel["results"])


if __name__ == "__main__":
    main()
