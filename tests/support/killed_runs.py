"""`geoagent-rl train` in a process of its own, killed for real, and what two runs' files differ
in.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from geoagent_rl.metrics.table import CACHES, LATENCIES, MACHINES, TABLE, row_of
from geoagent_rl.metrics.table import TIMES as TIMED
from tests.support.paths import ROOT
from tests.support.program import PROGRAM, environment

# Which processes of a run's tree a kill hits, by their titles (Ray's workers and vLLM's engine
# rename themselves).
PARTS = {
    "engine": "ray::RolloutEngine",
    "engine_core": "ray::RolloutEngine",  # its child, vLLM's own process
    "learner": "ray::LearnerRank",
}
FATAL = ("driver", "ray")  # no run survives these by itself
TIMES = ("seconds", "attempts", "judge_seconds")  # fields of rollouts.jsonl that no two runs share


def train(*words: str, program: tuple[str, ...] = ()) -> subprocess.Popen:
    """The command as a user starts it. `program` stands in for the installed entry point."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    command = [*(program or (PROGRAM,)), "train", *words]
    return subprocess.Popen(command, env=environment(), cwd=ROOT, **pipes)


def reaches(process: subprocess.Popen, step: int, said: list[str]) -> bool:
    """Reads what the run says until it has finished `step` or a later one (True) or has ended
    (False).
    """
    for line in process.stderr:
        said.append(line)
        found = re.match(r"step (\d+)/", line)
        if found and int(found[1]) >= step:
            return True
    return False


def title(process: psutil.Process) -> str:
    """The program's file name, or what the process calls itself."""
    try:
        return Path((process.cmdline() or [""])[0]).name
    except psutil.Error:
        return ""


def kill(process: subprocess.Popen, part: str) -> list[psutil.Process]:
    """SIGKILLs a part of the run (the driver alone, all of Ray with what runs in it, or one of
    PARTS); returns all processes that the run had."""
    tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    if part == "driver":
        victims = tree[:1]
    elif part == "ray":
        victims = tree[1:]
    else:
        victims = [p for p in tree if title(p).startswith(PARTS[part])]
    if part == "engine_core":
        victims = [
            child for p in victims for child in p.children() if title(child).startswith("VLLM")
        ]
    if not victims:
        raise AssertionError(f"no process of part {part!r} among {[title(p) for p in tree]}")
    for victim in victims:
        with contextlib.suppress(ProcessLookupError):  # some end with those killed before
            os.kill(victim.pid, signal.SIGKILL)
    return tree


def all_gone(process: subprocess.Popen, tree: list[psutil.Process], limit_s: float) -> None:
    """Waits for the end of a run and of everything it had started."""
    process.communicate(timeout=limit_s)
    _, alive = psutil.wait_procs(tree, timeout=limit_s)
    assert not alive, [title(p) for p in alive]


def killed_and_resumed(
    words: list[str],
    run: Path,
    kills: list[tuple[int, str, float]],
    limit_s: float,
    program: tuple[str, ...] = (),
    note: Callable[[str], None] = lambda line: None,
) -> list[str]:
    """A run of which a part is killed `seconds` after a step for each (step, part, seconds), and
    which is resumed as often as it did not survive that; returns what its lives have said, once the
    last one has finished well."""
    said: list[str] = []
    process, tree, resume = (
        train(*words, f"run.dir={run}", program=program),
        [],
        ["--resume", f"run.dir={run}"],
    )
    try:
        for step, part, seconds in kills:
            if not reaches(process, step, said):
                all_gone(process, tree, limit_s)
                process = train(*resume, program=program)
                assert reaches(process, step, said), "".join(said)[-4000:]
            time.sleep(seconds)  # a moment of the step after: what is being tested
            tree = kill(process, part)
            note(f"killed {part} {seconds:.2f} s after {said[-1].strip()[:60]}")
            if part in FATAL:
                reaches(process, 10**9, said)
        if not reaches(process, 10**9, said) and process.wait(limit_s):
            all_gone(process, tree, limit_s)
            process = train(*resume, program=program)
            _, rest = process.communicate(timeout=limit_s)
            said.append(rest)
        assert process.returncode == 0, "".join(said)[-4000:]
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(60)
    return said


def rows(run: Path, name: str) -> Iterator[dict[str, Any]]:
    """The lines of a run's file without what depends on clocks, on caches and on where the run
    lies.
    """
    for line in (run / name).read_text().replace(str(run), "RUN").splitlines():
        yield timeless(json.loads(line))


def is_repeated(name: str) -> bool:
    """Return whether a resumed run repeats a metric exactly: not times, nor what depends on
    machines or on what caches hold.
    """
    row = name if name in TABLE else row_of(name)[0]
    return not any(row in section for section in (TIMED, LATENCIES, CACHES, MACHINES))


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if is_repeated(k) and k not in TIMES}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def difference(a: Path, b: Path) -> str:
    """The first difference in what two runs recorded; empty when they agree value for value."""
    for name in ("metrics.jsonl", "rollouts.jsonl"):
        left, right = list(rows(a, name)), list(rows(b, name))
        for x, y in zip(left, right, strict=False):
            if x != y:
                keys = [key for key in {**x, **y} if x.get(key) != y.get(key)]
                values = {key: (x.get(key), y.get(key)) for key in keys}
                return f"{name}, step {x['step']}: {str(values)[:2000]}"
        if len(left) != len(right):
            return f"{name}: {len(left)} and {len(right)} lines"
    return ""
