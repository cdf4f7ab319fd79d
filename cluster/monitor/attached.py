"""A live run beside its files: what it consists of now, and the numbers of its replicas, which can
be changed.

Ray ends a process whose cluster goes away, so a child process joins the run and talks in lines of
JSON; the page outlives it. When no run is going on, or it has ended, another attempt is made after
a while."""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import threading
from typing import Any

from geoagent_rl.types import InfraError, UserError

PERIOD_S = 2.0  # between looks
AGAIN_S = 10.0  # between attempts to join
STOP_S = 10.0


class Attached:
    """Follows the run that `run` names (its directory or id; "": the only one that is going on).
    `close` in the end.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self.seen: dict[str, Any] = {"attached": True, "problem": "joining the run ..."}
        self._child: subprocess.Popen[str] | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="attached", daemon=True)
        self._thread.start()

    def scale(self, service: str, replicas: int) -> None:
        """Ask for a number of replicas; `seen` tells what came of it. Raises UserError while no run
        is joined."""
        child = self._child
        if child is None or child.stdin is None or self.seen.get("problem"):
            raise UserError("no run is joined, so there is nothing to scale")
        with contextlib.suppress(BrokenPipeError):  # it ends just now: the next look says so
            child.stdin.write(json.dumps({service: replicas}) + "\n")
            child.stdin.flush()

    def close(self) -> None:
        """End the child."""
        self._closed.set()
        if self._child is not None:
            self._child.terminate()
        self._thread.join(STOP_S)

    def _follow(self) -> None:
        while not self._closed.is_set():
            command = [sys.executable, "-m", "cluster.monitor.attached", self.run]
            with subprocess.Popen(
                command,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as child:
                self._child = child
                for line in child.stdout or ():
                    with contextlib.suppress(ValueError):  # half a line: the child was killed
                        self.seen = {"attached": True, **json.loads(line)}
            problem = self.seen.get("problem") or "the run has ended, or its cluster is gone"
            self.seen = {"attached": True, "problem": f"{problem}; trying again"}
            self._closed.wait(AGAIN_S)


def main(run: str) -> None:
    """Be the child: write a line of JSON every PERIOD_S, obey lines {service: replicas}, end with
    its parent.
    """
    from cluster.running import joined

    try:
        with joined(run) as live:
            from cluster.scale import scale
            from cluster.status import status

            said = ""
            while True:
                tell({**status(live.run_id), "said": said})
                if not select.select([sys.stdin], [], [], PERIOD_S)[0]:
                    continue
                line = sys.stdin.readline()
                if not line:
                    return
                wanted = json.loads(line)
                said = ", ".join(f"asked for {n} {service}" for service, n in wanted.items())
                try:
                    scale(live.run_id, wanted, timeout_s=0)
                except UserError as error:
                    said = str(error)
    except (UserError, InfraError, ConnectionError, RuntimeError) as error:
        tell({"problem": " ".join(str(error).split())[:300]})


def tell(seen: dict[str, Any]) -> None:
    """Write one line for the parent."""
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
