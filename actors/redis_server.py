"""An embedded Redis server: the redis-server binary as a child that lives exactly as long as its
owner.

Loopback only, random password (given on standard input, never on a command line or a disk),
append-only file in a directory of its own, so that the cache survives restarts. When the server
dies it is started again on the same port with the same data; when its owner dies, however that
happens, the kernel kills it. `EmbeddedRedis` is plain Python; `CacheServer` is the Ray actor that
owns one. May know nothing of what is cached."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import secrets
import signal
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import TextIO

from actors.redis_binary import redis_binary
from geoagent_rl.types import InfraError, UserError

START_S = 20.0  # loading a large append-only file takes seconds
LOCK_S = 5.0
MAX_MEMORY = "256mb"  # then the least recently used entries go, never the counters of budgets
_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def new_password() -> str:
    """Return a password for one server."""
    return secrets.token_hex(16)


class EmbeddedRedis:
    """One redis-server child over `directory`. The caller chooses port and password so that a
    restarted owner can offer the same address again."""

    def __init__(self, directory: str | Path, port: int, password: str):
        self.directory = Path(directory).absolute()
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"
        self.pid = 0  # of the server that runs now
        self.starts = 0
        self._config = "\n".join(
            [
                *("bind 127.0.0.1", f"port {port}", f"requirepass {password}", "daemonize no"),
                *("appendonly yes", "appendfsync everysec", 'save ""', "aof-use-rdb-preamble yes"),
                *(f"maxmemory {MAX_MEMORY}", "maxmemory-policy volatile-lru", "databases 1", ""),
            ]
        )
        self._lines: deque[str] = deque(maxlen=20)
        self._ready, self._stopping = threading.Event(), threading.Event()
        self._failed = False
        self._lock: TextIO | None = None  # held while a server may be alive
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> str:
        """Return the server's URL once it accepts connections.

        Raises UserError when another live server uses the directory, InfraError when the server
        does not come up."""
        self.directory.mkdir(parents=True, exist_ok=True)
        binary = redis_binary()
        self._lock = lock = _locked(self.directory / "server.lock")
        self._thread = threading.Thread(
            target=self._supervise, args=(binary, lock), name="redis-owner", daemon=True
        )
        self._thread.start()
        if not self._ready.wait(START_S) or self._failed:
            self.stop()
            raise InfraError(
                f"redis-server in {self.directory} did not start: {' | '.join(self._lines)[-500:]}"
            )
        return self.url

    def stop(self) -> None:
        """End the server (its data stays on disk). Idempotent."""
        self._stopping.set()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(3.0)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._thread is not None:
            self._thread.join(3.0)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _supervise(self, binary: str, lock: TextIO) -> None:
        """Start the server and start it again whenever it dies. The parent-death signal follows
        this *thread*, which lives as long as the server does.
        """
        pause = 0.05
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._live(binary, lock)
            except OSError as error:  # no process can be had just now
                self._lines.append(str(error))
            if not self._ready.is_set():
                self._failed = True
                self._ready.set()
                return
            pause = 0.05 if time.monotonic() - began > 10 else min(2 * pause, 5.0)
            self._stopping.wait(pause)

    def _live(self, binary: str, lock: TextIO) -> None:
        """Start the server and follow it to its end."""
        with subprocess.Popen(
            [binary, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.directory,
            pass_fds=(lock.fileno(),),  # the directory stays locked while a server is alive
            preexec_fn=_die_with_parent,
            text=True,
            errors="replace",
        ) as process:
            self._process = process
            self.pid, self.starts = process.pid, self.starts + 1
            if self._stopping.is_set():  # stop() has ended the one before
                process.terminate()
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):  # gone already; it says why
                    process.stdin.write(self._config)
                    process.stdin.close()
            for line in process.stdout or ():
                self._lines.append(line.strip())
                if "Ready to accept connections" in line:
                    self._ready.set()


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _locked(path: Path) -> TextIO:
    """Return the open file, locked. Waits a moment for a dying server. Raises UserError when
    another run keeps it."""
    file = path.open("w")
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise UserError(
                    f"the cache directory {path.parent} is in use by another run; set reward.cache.dir or give both "
                    "runs one server with reward.cache.url"
                ) from None
            time.sleep(0.05)


class CacheServer:
    """Owner of one EmbeddedRedis, as a Ray actor. Ray starts it again after a death, at the same
    address with the same data.
    """

    OPTIONS = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": 1}

    def __init__(self, directory: str, port: int, password: str):
        self.server = EmbeddedRedis(directory, port, password)
        self.url = self.server.start()

    def address(self) -> str:
        """Return the server's URL, password included."""
        return self.url

    def pid(self) -> int:
        """Return the id of the redis-server process."""
        return self.server.pid

    def stop(self) -> None:
        """End the server; its data stays on disk."""
        self.server.stop()
