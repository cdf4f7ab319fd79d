"""`geoagent-rl ablate`: plans the jobs of an ablation, runs them, and writes one table.

OUT/config.yaml and OUT/rows.json say what is run; OUT/seed-N/ROW are run directories;
OUT/ablation.{md,json,html,svg} is the outcome so far, written anew after every job. A finished row
is never run again; a killed one goes on. Jobs run as processes of this machine, or as Ray jobs of a
cluster whose nodes all see OUT: `python -m cluster.jobs.ablate_job`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cluster.jobs.ablate_rows import DONE, ROWS, row_dir
from cluster.storage import on_storage
from cluster.submit import STOP_WAIT_S, client, hand_in
from geoagent_rl.config import Config, flat, load, to_yaml
from geoagent_rl.evaluation.ablations import AblationRow, summarise
from geoagent_rl.files import write_json, write_text
from geoagent_rl.pages.ablation import markdown, picture, write_ablation
from geoagent_rl.run.directory import CONFIG, MARK
from geoagent_rl.run.start import changed_settings
from geoagent_rl.terminal import say
from geoagent_rl.types import InfraError, UserError

POLL_S = 2.0  # between questions to a cluster about a job
STOP_S = 120.0  # for a stopped process to save and end


@dataclass(frozen=True)
class Job:
    """Rows of one seed that one session brings to their end."""

    seed: int
    rows: tuple[str, ...]


def run_ablation(
    config: Config,
    rows: Sequence[AblationRow],
    seeds: Sequence[int],
    out: Path,
    jobs: int,
    address: str,
) -> str:
    """Run what is missing, `jobs` at a time; return the table as Markdown. The first failed job
    stops the others.
    """
    check(config, seeds, jobs)
    config, out = on_storage(config), out.resolve()
    everything = settle(config, rows, out)
    runner = Jobs(out, address)
    for wave in plan(
        rows, seeds, jobs, lambda name, seed: (row_dir(out, name, seed) / DONE).exists()
    ):
        runner.run(wave, jobs, lambda: write_outcome(everything, out))
    return write_outcome(everything, out)


def check(config: Config, seeds: Sequence[int], jobs: int) -> None:
    """Raise UserError for seeds, jobs or settings that cannot be run."""
    if jobs < 1 or not seeds or len(set(seeds)) < len(seeds):
        raise UserError(
            "give --jobs of at least 1, and --seeds as different whole numbers: --seeds 0,1,2"
        )
    if not config.data.eval_manifest and config.data.manifest != "scenes":
        raise UserError(
            "data.eval_manifest must be given: ablation rows are compared on photographs not trained on"
        )


def settle(config: Config, rows: Sequence[AblationRow], out: Path) -> list[AblationRow]:
    """Write OUT/config.yaml and OUT/rows.json; return all rows ever asked for there, in table
    order. Raises UserError when OUT belongs to other settings.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {out}: {error.strerror}; give another --out") from None
    config, kept = (
        dataclasses.replace(config, run=dataclasses.replace(config.run, dir="")),
        out / CONFIG,
    )
    if kept.exists():
        if not (out / ROWS).exists():
            raise UserError(f"{kept} is not of an ablation; rename it or give another --out")
        # With the defaults of keys that are newer than the file.
        old = flat(yaml.safe_load(to_yaml(load(kept))))
        if changes := changed_settings(old, config):
            raise UserError(
                f"{out} holds an ablation with other settings ({changes[0]}); give another --out"
            )
    listed = out / ROWS
    known = (
        {row["name"]: AblationRow(**row) for row in json.loads(listed.read_text())}
        if listed.exists()
        else {}
    )
    for row in rows:
        if row.name in known and known[row.name].overrides != row.overrides:
            raise UserError(
                f"row {row.name} was run with other overrides in {out}; give another --out"
            )
        known[row.name] = row
    everything = sorted(known.values(), key=lambda row: (row.order, row.name))
    write_json(listed, [dataclasses.asdict(row) for row in everything])
    write_text(kept, MARK + to_yaml(config))
    return everything


def plan(
    rows: Sequence[AblationRow],
    seeds: Sequence[int],
    jobs: int,
    finished: Callable[[str, int], bool],
) -> list[list[Job]]:
    """Return waves of jobs; those of a wave may run at once. A seed's rows are dealt to jobs //
    seeds jobs, at least one: then one session does them all. With several, the cold starts that
    they share come first, in a wave of their own."""
    parts = max(1, jobs // len(seeds))
    first, second = [], []
    for seed in seeds:
        left = [row.name for row in rows if not finished(row.name, seed)]
        used = dict.fromkeys(row.cold_start for row in rows if row.cold_start)
        starts = [name for name in used if not finished(name, seed)]
        if parts > 1 and starts:
            first.append(Job(seed, tuple(starts)))
            left = [name for name in left if name not in starts]
        second += [Job(seed, tuple(left[i::parts])) for i in range(parts) if left[i::parts]]
    return [wave for wave in (first, second) if wave]


def results(rows: Sequence[AblationRow], out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """Return (row, seed) -> evaluation table, of every finished row."""
    found = {}
    for path in out.glob(f"seed-*/*/{DONE}"):
        kept = json.loads(path.read_text())
        found[kept["row"], kept["seed"]] = kept["table"]
    return {key: table for key, table in found.items() if key[0] in {row.name for row in rows}}


def write_outcome(rows: Sequence[AblationRow], out: Path) -> str:
    """Write table, figure and numbers of what is done; return the table as Markdown."""
    found = results(rows, out)
    if not found:
        return ""
    outcome = summarise(rows, found)
    text = markdown(outcome)
    write_json(out / "ablation.json", outcome)
    write_text(out / "ablation.md", text)
    write_text(out / "ablation.svg", picture(outcome))
    write_ablation(out / "ablation.html", outcome, f"GeoAgent-RL · ablation {out.name}")
    return text


@dataclass
class Jobs:
    """Runs jobs, here or on a cluster. Ctrl-C or SIGTERM lets the running ones save and end."""

    out: Path
    address: str  # of a cluster's dashboard, http://host:8265; empty: processes on this machine
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, wave: Sequence[Job], at_once: int, after_each: Callable[[], Any]) -> None:
        """Run all jobs of a wave, `at_once` at a time; the first failure stops the others."""
        with ThreadPoolExecutor(at_once) as pool, interrupts(self.stopping.set):
            waiting = {pool.submit(self.one, job) for job in wave}
            try:
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    after_each()
                    for job in done:
                        job.result()
            except BaseException:
                self.stopping.set()
                raise
        if self.stopping.is_set():
            after_each()
            say(f"stopped; the same command goes on ({self.out})")
            raise KeyboardInterrupt

    def one(self, job: Job) -> None:
        """Run one job to its end."""
        if self.stopping.is_set():
            return
        say(f"seed {job.seed}: {', '.join(job.rows)}")
        words = ["-m", "cluster.jobs.ablate_job", str(self.out), str(job.seed), *job.rows]
        ended = self.remotely(words) if self.address else self.locally(words)
        if ended and not self.stopping.is_set():
            raise InfraError(
                f"the job of seed {job.seed} ({', '.join(job.rows)}) ended with {ended}; its last words are above, and "
                "the same command goes on where it stopped"
            )

    def locally(self, words: list[str]) -> str:
        """Empty, or how it failed. A process group of its own: Ctrl-C reaches it once, from
        here.
        """
        process = subprocess.Popen([sys.executable, *words], process_group=0)
        try:
            while process.poll() is None and not self.stopping.is_set():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.5)
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(STOP_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return f"exit code {process.returncode}" if process.returncode else ""

    def remotely(self, words: list[str]) -> str:
        """Empty, or how it failed. A stopped job saves and ends within STOP_WAIT_S; nobody waits
        for it here.
        """
        server = client(self.address)
        environment = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}}
        try:
            job = hand_in(
                server, entrypoint=shlex.join(["python", *words]), runtime_env=environment
            )
            while not (status := server.get_job_status(job)).is_terminal():
                if self.stopping.wait(POLL_S):
                    server.stop_job(job)
                    return ""
            if status.value == "SUCCEEDED":
                return ""
            say(server.get_job_logs(job)[-3000:])
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InfraError(
                f"the job server at {self.address} failed: {reason}; jobs that run go on, and the same command goes on "
                "after them"
            ) from None
        return f"status {status.value}"


@contextlib.contextmanager
def interrupts(stop: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM, while the block runs, call `stop` instead of ending the process at
    once."""
    before = {
        number: signal.signal(number, lambda *_: stop())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
