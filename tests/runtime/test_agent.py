"""The agent as a stranger, a careless client and a broken one meet it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from tests.conftest import HEARS_CONTROL_C
from tests.runtime.conftest import StartAgent, assert_serves, device_of, greeting, send
from tests.small_networks import INPUT_SHAPE, small_onnx

from tapdot.compiler.errors import DeviceError
from tapdot.kernels.tvm_adapter import rpc
from tapdot.runtime.bundle import Bundle
from tapdot.runtime.devices.agent_process import AgentProcess
from tapdot.runtime.devices.connection import RPC_CODE_DUPLICATE, RPC_CODE_MISMATCH, RPC_MAGIC, greet
from tapdot.runtime.devices.remote import RemoteDevice, RemoteSession
from tapdot.runtime.program import LoadedProgram


def wait_for(condition: object, seconds: float = 10.0) -> None:
    """Fails unless the callable becomes true in time."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def sessions_of(agent: AgentProcess) -> list[psutil.Process]:
    return psutil.Process(agent.process_id).children()


def folders_of(agent: AgentProcess) -> list[Path]:
    return list(agent.directory.glob("agent-*/session-*"))


def run_agent(bundle: Bundle, *options: str, key: str | None = "k") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TAPDOT_KEY"}
    if key is not None:
        environment["TAPDOT_KEY"] = key
    return subprocess.run(
        [*bundle.command("tapdot-agent"), *options], capture_output=True, text=True, env=environment, timeout=20, check=False
    )


# -- the greeting -----------------------------------------------------------------------------------------------------------


def test_the_right_key_is_answered_as_tvm_expects(agent: AgentProcess) -> None:
    with socket.create_connection(("127.0.0.1", agent.port), timeout=10) as connection:
        connection.sendall(greeting(agent.key))
        answer = connection.makefile("rb")  # with a timeout set, recv gives what has come, MSG_WAITALL or not
        code, length = struct.unpack("<ii", answer.read(8))
        assert (code, answer.read(length)) == (RPC_MAGIC, f"server:{agent.key}".encode())


@pytest.mark.parametrize("key", ["", "wrong", "x" * 200])
def test_another_key_is_refused_in_tvms_own_words(agent: AgentProcess, key: str, misbehaving_library: Path) -> None:
    assert send(agent.port, greeting(key)) == struct.pack("<i", RPC_CODE_MISMATCH)
    with pytest.raises(RuntimeError, match="cannot find server that matches key"):
        rpc.connect("127.0.0.1", agent.port, key)
    with pytest.raises(DeviceError, match=r"refused the key\. Set TAPDOT_KEY"):
        RemoteDevice("127.0.0.1", agent.port, key or "empty").open()
    assert_serves(agent, misbehaving_library)


def test_a_key_that_begins_or_ends_like_the_right_one_is_refused(agent: AgentProcess) -> None:
    for key in (agent.key[:-1], agent.key + "0", agent.key + agent.key, agent.key[1:], agent.key.upper() + "g"):
        assert send(agent.port, greeting(key)) == struct.pack("<i", RPC_CODE_MISMATCH)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: phone\r\n\r\n",
        secrets.token_bytes(4096),
        struct.pack("<i", RPC_MAGIC) + struct.pack("<i", -1) + b"x" * 64,
        struct.pack("<i", RPC_MAGIC) + struct.pack("<i", 2**31 - 1) + b"x" * 64,
        greeting("k" * 250),
        b"",
        b"\x71",
        greeting("half", length=200),
    ],
)
def test_garbage_is_hung_up_on_without_an_answer(start_agent: StartAgent, data: bytes, misbehaving_library: Path) -> None:
    agent = start_agent("--handshake-seconds", "0.3")
    assert send(agent.port, data) == b""
    assert_serves(agent, misbehaving_library)


def test_a_client_that_drips_bytes_is_hung_up_on_in_time(start_agent: StartAgent, misbehaving_library: Path) -> None:
    agent = start_agent("--handshake-seconds", "0.5", "--sessions", "1")
    connections = [socket.create_connection(("127.0.0.1", agent.port)) for _ in range(8)]
    started = time.monotonic()
    try:
        with pytest.raises(OSError):
            for byte in greeting(agent.key) * 10:
                for connection in connections:
                    connection.send(bytes([byte]))
                time.sleep(0.05)
                if byte == RPC_MAGIC & 0xFF:
                    assert_serves(agent, misbehaving_library)  # although one session is all there is
    finally:
        for connection in connections:
            connection.close()
    assert time.monotonic() - started < 15
    wait_for(lambda: not sessions_of(agent))


def test_more_strangers_than_slots_only_delay_a_client(start_agent: StartAgent, misbehaving_library: Path) -> None:
    agent = start_agent("--handshake-seconds", "0.5")
    strangers = [socket.create_connection(("127.0.0.1", agent.port)) for _ in range(50)]
    assert_serves(agent, misbehaving_library)
    for stranger in strangers:
        stranger.close()


# -- sessions ---------------------------------------------------------------------------------------------------------------


def test_the_parent_holds_no_tvm_and_no_thread(agent: AgentProcess, device: RemoteDevice) -> None:
    with device.open():
        assert "libtvm_runtime" not in Path(f"/proc/{agent.process_id}/maps").read_text()
        assert psutil.Process(agent.process_id).num_threads() == 1


def test_each_session_has_a_folder_that_goes_with_it(
    agent: AgentProcess, device: RemoteDevice, misbehaving_library: Path
) -> None:
    with device.open() as first, device.open() as second:
        for session in (first, second):
            session.load_library(misbehaving_library)  # gone from the folder once it is mapped
            session._connection.session.upload(bytearray(b"content"), "file")
        folders = folders_of(agent)
        assert sorted([path.name for path in folder.iterdir()] for folder in folders) == [["file"]] * 2
        assert all(folder.stat().st_mode & 0o077 == 0 for folder in folders)
    wait_for(lambda: not folders_of(agent) and not sessions_of(agent))


def test_one_client_too_many_is_told_to_wait(start_agent: StartAgent, misbehaving_library: Path) -> None:
    agent = start_agent("--sessions", "2")
    device = device_of(agent)
    with device.open(), device.open():
        assert send(agent.port, greeting(agent.key)) == struct.pack("<i", RPC_CODE_DUPLICATE)
        with pytest.raises(DeviceError, match="is busy: all its sessions are taken"):
            device.open()
    wait_for(lambda: not sessions_of(agent))
    assert_serves(agent, misbehaving_library)


FOUR_CLIENTS = """
import os, sys, traceback
import numpy as np
import tapdot
from tapdot.runtime.program import LoadedProgram  # once, before the processes part: loading TVM takes seconds

def client(value):
    package = tapdot.load(sys.argv[2])
    inputs = {"image": np.full((1, 3, 8, 8), float(value), np.float32)}
    with tapdot.connect(sys.argv[1]).open(60) as session:
        os.write(1, b"open\\n")
        os.read(0, 1)  # until every client has its session
        program = LoadedProgram(session, package)
        answers = {program.run(inputs)["answer"].tobytes() for _ in range(20)}
    os.write(1, f"{value} {' '.join(answer.hex() for answer in answers)}\\n".encode())

children = []
for value in sys.argv[3:]:
    child = os.fork()
    if child == 0:
        try:
            client(value)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_four_clients_at_once_each_get_their_own_answers(agent: AgentProcess, tmp_path: Path) -> None:
    """Processes of their own, all with a session at the same moment, with one package and inputs that differ."""
    import tapdot

    package = tapdot.compile(small_onnx(tmp_path / "small.onnx"), target="host:generic")
    package.save(tmp_path / "small.tapdot")
    values = ("1", "2", "3", "4")
    clients = subprocess.Popen(
        [sys.executable, "-c", FOUR_CLIENTS, device_of(agent).line, str(tmp_path / "small.tapdot"), *values],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TAPDOT_KEY": agent.key},
    )
    assert clients.stdout is not None
    assert [clients.stdout.readline() for _ in values] == ["open\n"] * 4
    assert len(sessions_of(agent)) == 4
    with pytest.raises(DeviceError, match="is busy"):
        device_of(agent).open()
    told, _ = clients.communicate("....", timeout=60)
    assert clients.returncode == 0
    found = dict(line.split(" ", 1) for line in told.splitlines())
    with tapdot.connect("host").open() as session:
        host = LoadedProgram(session, package)
        for value in values:
            image = np.full(INPUT_SHAPE, float(value), np.float32)
            assert found[value] == host.run({"image": image})["answer"].tobytes().hex(), "twenty times the same"
    wait_for(lambda: not sessions_of(agent) and not folders_of(agent))


def test_an_agent_on_ipv6(start_agent: StartAgent, misbehaving_library: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    agent = start_agent("--address", "::1")
    device = RemoteDevice("::1", agent.port, agent.key)
    with device.open(20) as session:
        session.call(session.load_library(misbehaving_library), "nothing", [])
    with pytest.raises(DeviceError, match=rf"rpc://\[::1\]:{agent.port} refused the key"):
        RemoteDevice("::1", agent.port, "wrong").open()


@pytest.mark.parametrize("name", ["../escape", "a/b", "/tmp/x", "..", ".hidden", "", "x" * 129, "a..b", "nul\0byte"])
def test_file_names_stay_inside_the_session(device: RemoteDevice, agent: AgentProcess, name: str) -> None:
    session = rpc.connect("127.0.0.1", agent.port, agent.key)
    for call in (
        lambda: session.upload(bytearray(b"x"), name or "\0"),
        lambda: session.get_function("tapdot.agent.append")(name, b"x"),
        lambda: session.load_module(name),
        lambda: session.download(name),
        lambda: session.remove(name),
    ):
        if "\0" in name:
            continue  # names end at a zero byte on the wire
        with pytest.raises(RuntimeError, match="file names are plain"):
            call()


def test_tvms_own_client_works(agent: AgentProcess, misbehaving_library: Path) -> None:
    session = rpc.connect("127.0.0.1", agent.port, agent.key, session_timeout=60)
    session.upload(str(misbehaving_library))
    assert session.load_module(misbehaving_library.name)["nothing"]() is None
    session.upload(bytearray(b"content"), "file")
    assert session.download("file") == b"content"
    session.remove("file")


def test_files_and_their_number_are_limited(start_agent: StartAgent) -> None:
    agent = start_agent("--file-limit", "1")
    session = rpc.connect("127.0.0.1", agent.port, agent.key)
    append = session.get_function("tapdot.agent.append")
    append("big", bytes(2**20))
    with pytest.raises(RuntimeError, match="File too large"):
        append("big", b"x")
    with pytest.raises(RuntimeError, match="at most 256 files"):
        for number in range(300):
            append(f"file-{number}", b"x")


def test_a_session_loads_any_number_of_libraries(device: RemoteDevice, misbehaving_library: Path) -> None:
    with device.open(60) as session:
        for _ in range(260):  # found by a soak: every library stayed a file, and a session may hold 256
            session.call(session.load_library(misbehaving_library), "nothing", [])


@pytest.mark.parametrize("limited_by", ["agent", "client"])
def test_a_session_ends_when_its_time_is_over(start_agent: StartAgent, limited_by: str) -> None:
    agent = start_agent(*(("--session-seconds", "1") if limited_by == "agent" else ()))
    session = rpc.connect("127.0.0.1", agent.port, agent.key, session_timeout=0.2 if limited_by == "client" else 0)
    session.get_function("tapdot.agent.information")()
    wait_for(lambda: not sessions_of(agent), 5)


# -- accidents --------------------------------------------------------------------------------------------------------------

OPEN_AND_HANG = """
import sys
from pathlib import Path
from tapdot.runtime.devices.remote import RemoteDevice
session = RemoteDevice("127.0.0.1", int(sys.argv[1]), sys.argv[2]).open()
module = session.load_library(Path(sys.argv[3]))
print("ready", flush=True)
session.call(module, "hang", [])
"""


def start_client(agent: AgentProcess, library: Path) -> subprocess.Popen[bytes]:
    client = subprocess.Popen(
        [sys.executable, "-c", HEARS_CONTROL_C + OPEN_AND_HANG, str(agent.port), agent.key, str(library)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert client.stdout is not None and client.stdout.readline() == b"ready\n"
    return client


def test_a_client_that_vanishes_leaves_nothing_behind(agent: AgentProcess, misbehaving_library: Path) -> None:
    connection = socket.create_connection(("127.0.0.1", agent.port), timeout=10)
    connection.sendall(greeting(agent.key) + struct.pack("<Q", 1000) + b"half of a packet")
    wait_for(lambda: folders_of(agent))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset instead of a farewell
    connection.close()
    wait_for(lambda: not folders_of(agent) and not sessions_of(agent))
    assert_serves(agent, misbehaving_library)


def test_a_client_killed_in_a_call_costs_one_session_for_a_while(start_agent: StartAgent, misbehaving_library: Path) -> None:
    agent = start_agent("--session-seconds", "4")
    client = start_client(agent, misbehaving_library)
    time.sleep(0.2)
    client.kill()
    client.communicate()
    assert_serves(agent, misbehaving_library)
    wait_for(lambda: not folders_of(agent) and not sessions_of(agent), 15)


def test_control_c_in_a_call_ends_the_client(agent: AgentProcess, misbehaving_library: Path) -> None:
    client = start_client(agent, misbehaving_library)
    time.sleep(0.5)
    client.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in client.communicate(timeout=30)[1]
    assert_serves(agent, misbehaving_library)


def test_a_crash_on_the_device_is_a_sentence_and_the_next_client_is_served(
    agent: AgentProcess, device: RemoteDevice, misbehaving_library: Path
) -> None:
    with device.open() as session:
        module = session.load_library(misbehaving_library)
        with pytest.raises(DeviceError, match=r"Running crash ended without an answer: .* or the code crashed there"):
            session.call(module, "crash", [])
        with pytest.raises(DeviceError, match=r"the session with .* has ended\. Open a new one"):
            session.information()
    assert_serves(agent, misbehaving_library)


def test_a_hang_on_the_device_is_a_sentence(device: RemoteDevice, misbehaving_library: Path) -> None:
    started = time.monotonic()
    with device.open(time_limit=1.0) as session, pytest.raises(DeviceError, match="Running hang took longer than 1 s"):
        session.call(session.load_library(misbehaving_library), "hang", [])
    assert time.monotonic() - started < 30


def test_an_agent_killed_in_a_call_is_a_sentence(agent: AgentProcess, device: RemoteDevice, misbehaving_library: Path) -> None:
    with device.open() as session:
        module = session.load_library(misbehaving_library)
        threading.Timer(0.3, lambda: os.kill(agent.process_id, signal.SIGKILL)).start()
        with pytest.raises(DeviceError, match="Running hang ended without an answer"):
            session.call(module, "hang", [])
    with pytest.raises(DeviceError, match="Nothing listens at"):
        device.open()


def test_a_silent_peer_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(DeviceError, match=r"did not answer within 0\.3 s"):
            greet("127.0.0.1", port, "k", f"rpc://127.0.0.1:{port}", seconds=0.3)


def test_another_program_behind_the_port_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(64)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DeviceError, match="is not a tapdot agent"):
            RemoteDevice("127.0.0.1", port, "k").open()
        thread.join()


# -- the process ------------------------------------------------------------------------------------------------------------


def test_a_busy_port_is_a_sentence_and_a_failure(agent: AgentProcess, native_bundle: Bundle, tmp_path: Path) -> None:
    done = run_agent(native_bundle, "--port", str(agent.port), "--directory", str(tmp_path))
    assert done.returncode == 1
    assert f"port {agent.port} of 127.0.0.1 is taken by another program" in done.stderr
    assert not list(tmp_path.glob("agent-*"))


@pytest.mark.parametrize(
    ("options", "key", "status", "words"),
    [
        ((), None, 1, "no key"),
        ((), "two words", 1, "without spaces"),
        ((), "k" * 300, 1, "at most 192 bytes"),
        (("--key-file", "/nowhere"), None, 1, "cannot read a key from /nowhere"),
        (("--colour", "blue"), "k", 2, "unknown option '--colour'"),
        (("--port",), "k", 2, "--port needs a value"),
        (("--port", "70000"), "k", 2, "takes a number from 0 to 65535"),
        (("--sessions", "many"), "k", 2, "takes a number from 1 to 64"),
        (("--address", "localhost"), "k", 1, "not a numeric IPv4 or IPv6 address"),
        (("--directory", "/proc/nowhere"), "k", 1, "cannot create a folder in /proc/nowhere"),
    ],
)
def test_bad_options_are_sentences(
    native_bundle: Bundle, tmp_path: Path, options: tuple[str, ...], key: str | None, status: int, words: str
) -> None:
    directory = () if "--directory" in options else ("--directory", str(tmp_path))
    done = run_agent(native_bundle, *directory, *options, key=key)
    assert done.returncode == status and words in done.stderr, done.stderr


def test_a_key_may_come_from_a_file(start_agent: StartAgent, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-the-file\n")
    agent = start_agent("--key-file", str(tmp_path / "key"))
    assert send(agent.port, greeting("from-the-file")) == struct.pack("<i", RPC_MAGIC)
    assert send(agent.port, greeting(agent.key)) == struct.pack("<i", RPC_CODE_MISMATCH)


@pytest.mark.parametrize("how", ["terminate", "pipe"])
def test_the_agent_takes_its_sessions_and_folders_along(agent: AgentProcess, device: RemoteDevice, how: str) -> None:
    with device.open() as session:
        process = sessions_of(agent)[0]
        if how == "terminate":
            os.kill(agent.process_id, signal.SIGTERM)
            agent.wait(5)
            assert not list(agent.directory.glob("agent-*"))
        else:
            agent.stop()
        wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
        with pytest.raises(DeviceError, match="ended without an answer"):
            session.information()


def test_what_a_killed_agent_left_is_swept_by_the_next(native_bundle: Bundle, tmp_path: Path) -> None:
    def start() -> subprocess.Popen[str]:
        command = [*native_bundle.command("tapdot-agent"), "--port", "0", "--directory", str(tmp_path)]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TAPDOT_KEY": "k"})
        assert started.stdout is not None and started.stdout.readline()
        return started

    first = start()
    (abandoned,) = tmp_path.glob("agent-*")
    second = start()
    assert abandoned.exists() and len(list(tmp_path.glob("agent-*"))) == 2  # the first still lives
    first.kill()
    first.communicate()
    third = start()
    assert not abandoned.exists() and len(list(tmp_path.glob("agent-*"))) == 2
    for agent in (second, third):
        agent.terminate()
        agent.communicate()
    assert not list(tmp_path.glob("agent-*"))


def test_many_sessions_leave_no_trace(agent: AgentProcess, misbehaving_library: Path) -> None:
    process = psutil.Process(agent.process_id)
    assert_serves(agent, misbehaving_library)
    wait_for(lambda: not sessions_of(agent))
    here = psutil.Process()
    before = process.num_fds(), process.memory_info().rss, here.num_fds(), here.num_threads()
    for number in range(60):
        if number % 10 == 9:
            send(agent.port, b"garbage!" * 4)
        session = device_of(agent).open(20)
        assert isinstance(session, RemoteSession)
        module = session.load_library(misbehaving_library)
        if number % 7 == 6:
            with pytest.raises(DeviceError):
                session.call(module, "crash", [])
        else:
            session.call(module, "nothing", [])
        session.close()
    wait_for(lambda: not sessions_of(agent) and not folders_of(agent))
    after = process.num_fds(), process.memory_info().rss, here.num_fds(), here.num_threads()
    assert after[0] <= before[0], "a session that has just ended may still be open at first"
    assert after[1] < before[1] + 2**20
    assert after[2] <= before[2] + 2
    assert after[3] <= before[3] + 1
