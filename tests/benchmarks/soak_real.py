"""The soak's real program: `geoagent-rl train` on the tiny policy, with all of its real parts.

As root every run gets a network, a /dev/shm and a disk of its own (namespaces, tmpfs), which can be
shut, filled and slowed without touching the machine; others leave those faults out. What this does
not make: clock jumps and power cuts (the stand-in does)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from geoagent_rl.geo.gazetteer_file import CACHE_VARIABLE, cache_root
from geoagent_rl.run.start import holds_a_run
from tests.benchmarks.faults_run import title
from tests.benchmarks.soak_plan import NothingThereError, Undo
from tests.support.paths import ROOT
from tests.support.program import environment

STEPS, PROMPTS, GROUP = 12, 3, 4
WORDS = [
    f"steps={STEPS}", f"rollout.prompts_per_step={PROMPTS}", f"rollout.group_size={GROUP}",
    "scenes.train=30", "scenes.sft=96", "sft.epochs=2", "sft.batch_size=8", "rollout.timeout_s=45",
    "learner.timeout_s=120", "reward.attempt_timeout_s=15", "reward.deadline_s=120",
]  # fmt: skip
SHAPES = {
    "grpo": ["run.save_every=1"],
    "sft, evaluation": [
        "run.save_every=2", "run.validate_every=2", "run.validate_samples=4",
        "data.eval_manifest=scenes", "scenes.heldout=6",
    ],
}  # fmt: skip
STARTS = ("starting Ray", r"waiting for \d+ rollout engines", "starting the learner for GRPO")
AGAIN = "starting it again|starting the learner again|resuming after"
DONE = tuple(f"step {i}/" for i in range(1, STEPS))
MOMENTS = {
    "grpo": (*STARTS, *DONE, AGAIN),
    "sft, evaluation": (STARTS[0], "starting the learner for SFT", "SFT: ", *STARTS[1:2])
    + ("evaluation: ", STARTS[2], *DONE, AGAIN),
}
MAIN = "from cluster.cli.main import main; main()"
MEMORY = Path("/sys/fs/cgroup/memory")
END_S = 60.0
# Two of Ray's agents outlive a SIGKILL of the driver by 60 s: raylet and GCS die with it, and each
# agent's last report waits for the GCS (gcs_server_request_timeout_seconds); then they end.
GONE_S = 90.0
LOSE = (  # two classes of packets, one of which takes a packet in an hour
    "qdisc replace dev lo root handle 1: htb default 1",
    "class add dev lo parent 1: classid 1:1 htb rate 100gbit quantum 60000",
    "class add dev lo parent 1: classid 1:2 htb rate 8bit burst 1 cburst 1 quantum 60000",
    "qdisc add dev lo parent 1:2 pfifo limit 1",
)
PARTS = {
    "the rollout engine": "ray::RolloutEngine",
    "vLLM's own process": "VLLM::EngineCore",
    "the learner": "ray::LearnerRank",
    "the judge": "ConsistencyAgent",
    "a reward replica": "GeoEmbedWorker",
    "Serve's controller": "ray::ServeController",
    "Redis": "redis-server",
    "Ray's GCS": "gcs_server",
    "Ray's raylet": "raylet/raylet",
}


class RealLife:
    """`geoagent-rl train` as a user starts it."""

    def __init__(self, ground: Real, folder: Path, words: list[str]) -> None:
        self.ground, self.log = ground, ground.box / "log"
        command = [*ground.inside(), sys.executable, "-c", MAIN, "train", *words]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=ground.env, cwd=ROOT, start_new_session=True
            )
        self.family: set[psutil.Process] = set()

    def lines(self) -> list[str]:
        """What it has said."""
        return self.log.read_text(errors="replace").splitlines()

    def ended(self) -> int | None:
        """Its exit code."""
        return self.process.poll()

    def alive(self) -> list[psutil.Process]:
        """Everything that it has started and that still runs."""
        for pid in (self.process.pid, *self.ground.pids()):
            with contextlib.suppress(psutil.NoSuchProcess):
                root = psutil.Process(pid)
                self.family |= {root, *root.children(recursive=True)}
        return [p for p in self.family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def of(self, word: str) -> list[int]:
        """The processes of a part."""
        found = [p.pid for p in self.alive() if word in title(p)]
        if not found:
            raise NothingThereError
        return sorted(found)

    def one(self, word: str) -> int:
        """A process of a part; "": the driver."""
        return self.of(word)[0] if word else self.process.pid

    def send(self, number: int, word: str = "") -> None:
        """A signal to a process of a part, "": to the driver."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.one(word), number)

    def kill(self) -> None:
        """Everything."""
        for process in self.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(END_S)


def stopped(word: str, seconds: float) -> Callable[[RealLife], Undo]:
    """SIGSTOP for some seconds: longer than its callers wait, or shorter."""

    def strike(life: RealLife) -> Undo:
        pid = life.one(word)
        os.kill(pid, signal.SIGSTOP)

        def wake() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

        return seconds, wake

    return strike


def out_of_memory(word: str) -> Callable[[RealLife], Undo]:
    """The kernel's own: the part may take no further page."""

    def strike(life: RealLife) -> Undo:
        pid, group = life.of(word)[0], MEMORY / f"ga-soak-{uuid.uuid4().hex[:8]}"
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("1M")
        (group / "cgroup.procs").write_text(str(pid))

        def end() -> None:
            with contextlib.suppress(psutil.Error, OSError):
                psutil.Process(pid).kill()
                psutil.Process(pid).wait(5)
            with contextlib.suppress(OSError):
                group.rmdir()

        return 15.0, end

    return strike


def filled(which: str, seconds: float) -> Callable[[RealLife], Undo]:
    """A file system of the run's own is full for some seconds."""

    def strike(life: RealLife) -> Undo:
        filler = getattr(life.ground, which) / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 20)):
                pass
        return seconds, lambda: filler.unlink(missing_ok=True)

    return strike


def in_space(life: RealLife, words: str, must: bool = True) -> None:
    """Run a command on the run's own network, which the word SPACE stands for."""
    subprocess.run(words.replace("SPACE", life.ground.space).split(), check=must)


def network(begin: str, end: str, seconds: float) -> Callable[[RealLife], Undo]:
    """Something of the network is changed for some seconds; all parts speak over it."""

    def strike(life: RealLife) -> Undo:
        in_space(life, begin)
        # another fault of the network, at the same time, may have replaced what this one began
        return seconds, lambda: in_space(life, end, must=False)

    return strike


def unheard(word: str, seconds: float) -> Callable[[RealLife], Undo]:
    """In one direction: what is sent to a part's ports is lost, what it sends elsewhere arrives."""

    def strike(life: RealLife) -> Undo:
        command = f"ip netns exec {life.ground.space} ss -Hltnp".split()
        listening = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        mine = [line.split() for line in listening.splitlines() if f"pid={life.one(word)}," in line]
        ports = {words[3].rpartition(":")[2] for words in mine}
        lost = [
            f"filter add dev lo parent 1: u32 match ip dport {p} 0xffff flowid 1:2" for p in ports
        ]
        for words in (*LOSE, *lost):
            in_space(life, f"tc -n SPACE {words}")
        return seconds, lambda: in_space(life, "tc -n SPACE qdisc del dev lo root", must=False)

    return strike


def whole_machine(life: RealLife) -> None:
    """The driver and all that it started, at once."""
    life.kill()


KINDS: dict[str, Callable[[RealLife], Undo | None]] = {
    "SIGKILL of the driver": lambda life: life.send(signal.SIGKILL),
    "SIGKILL of everything": whole_machine,
    "SIGTERM": lambda life: life.send(signal.SIGTERM),
    "SIGTERM, 3 times": lambda life: [life.send(signal.SIGTERM) for _ in range(3)] and None,
    "SIGHUP": lambda life: life.send(signal.SIGHUP),
    "SIGSTOP of the engine for 5 s": stopped("VLLM::EngineCore", 5),
    "SIGSTOP of the engine for 75 s": stopped("VLLM::EngineCore", 75),
    "SIGSTOP of the learner for 5 s": stopped("ray::LearnerRank", 5),
    "SIGSTOP of the judge for 20 s": stopped("ConsistencyAgent", 20),
    "SIGSTOP of the driver for 10 s": stopped("", 10),
}
for name, word in PARTS.items():
    KINDS[f"SIGKILL of {name}"] = lambda life, word=word: life.send(signal.SIGKILL, word)
OWN_GROUND = {
    "OOM kill of the engine": out_of_memory("VLLM::EngineCore"),
    "OOM kill of the learner": out_of_memory("ray::LearnerRank"),
    "the run's disk full for 10 s": filled("disk", 10),
    "/dev/shm full for 10 s": filled("memory", 10),
    "no packet passes for 5 s": network(
        "ip -n SPACE link set lo down", "ip -n SPACE link set lo up", 5
    ),
    "2 Mbit/s, then packets are lost, for 15 s": network(
        "tc -n SPACE qdisc replace dev lo root tbf rate 2mbit burst 64kb latency 50ms",
        "tc -n SPACE qdisc del dev lo root",
        15,
    ),
    "nothing reaches Ray's GCS for 8 s": unheard("gcs_server", 8),
    "nothing reaches the learner for 8 s": unheard("ray::LearnerRank", 8),
}


def mount(folder: Path, size: str) -> None:
    """A small file system of memory."""
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "ga-soak", str(folder)]
    subprocess.run(words, check=True)


class Real:
    """The Program of the real run."""

    name, poll_s, limit_s, longest_s = "real", 0.05, 900.0, 1.5
    steps, samples = STEPS, PROMPTS * GROUP
    moments = MOMENTS

    def __init__(self, into: Path) -> None:
        """into: of the campaign; nothing of it is an input of these runs."""
        self.space, self.stayed = f"ga-soak-{os.getpid()}", []

    def __enter__(self) -> Real:
        self.apart = os.geteuid() == 0
        self.kinds = KINDS | (OWN_GROUND if self.apart else {})
        self.box = Path(tempfile.mkdtemp(prefix="ga-soak-"))
        self.memory, self.cache = self.box / "shm", self.box / "cache"
        self.disk: Path | None = None  # the directory of the run that is going on
        self.cache.mkdir()
        for made in cache_root().iterdir():  # all but policies after SFT: that is what is made
            if made.suffix == ".sqlite" or re.fullmatch(r"tiny-\d+-[0-9a-f]+", made.name):
                (self.cache / made.name).symlink_to(made)
        self.env = environment(
            **{CACHE_VARIABLE: str(self.cache), "PYTHONPATH": str(ROOT)},
            RAY_gcs_rpc_server_reconnect_timeout_s="10",
        )
        if self.apart:
            mount(self.memory, "1g")
            subprocess.run(["ip", "netns", "add", self.space], check=True)
            subprocess.run(["ip", "-n", self.space, "link", "set", "lo", "up"], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.apart:
            subprocess.run(["ip", "netns", "del", self.space], check=False)
            for mounted in filter(None, (self.memory, self.disk)):
                subprocess.run(["umount", "-l", str(mounted)], check=False)
        shutil.rmtree(self.box, ignore_errors=True)

    @contextlib.contextmanager
    def life(self, folder: Path, shape: str) -> Iterator[RealLife]:
        """Start the run in `folder`, or go on with it; its files lie on the run's own disk."""
        if self.apart and self.disk is None:
            mount(folder, "400m")
            self.disk = folder
        words = ["--config", "configs/local.yaml", *WORDS, *SHAPES[shape]]
        start = ["--resume"] if holds_a_run(folder) else words
        life = RealLife(self, folder, [*start, f"run.dir={folder}"])
        try:
            yield life
        finally:
            if life.ended() is not None:
                psutil.wait_procs(life.alive(), GONE_S)
                self.stayed += [title(p)[:80] for p in life.alive()]
            life.kill()

    def inside(self) -> list[str]:
        """What puts a command into the run's own network and shared memory."""
        if not self.apart:
            return []
        bind = f'mount --bind {self.memory} /dev/shm; exec "$@"'
        return ["ip", "netns", "exec", self.space, "sh", "-c", bind, "sh"]

    def pids(self) -> list[int]:
        """All processes in the run's own network."""
        if not self.apart:
            return []
        found = subprocess.run(["ip", "netns", "pids", self.space], capture_output=True, text=True)
        return [int(pid) for pid in found.stdout.split()]

    def left_behind(self) -> Iterator[str]:
        """Processes, published weights and notes."""
        yield from (f"process {name}" for name in self.stayed)
        self.stayed.clear()
        if self.disk is not None:  # back to the machine's disk
            kept = self.disk.with_name(self.disk.name + ".kept")
            shutil.copytree(self.disk, kept, symlinks=True)
            subprocess.run(["umount", "-l", str(self.disk)], check=True)
            self.disk.rmdir()
            kept.rename(self.disk)
            self.disk = None
        shared = self.memory if self.apart else Path("/dev/shm")
        for left in shared.glob("geoagent-*" if not self.apart else "*"):
            if left.name.startswith("sem.loky-"):  # 32 bytes of joblib's, killed in its import
                left.unlink()
                continue
            yield f"in shared memory: {left.name}"
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        for note in (self.cache / "sessions").glob("*"):
            yield f"note {note.name}"
            note.unlink()
        for policy in self.cache.glob("tiny-*-sft-*"):  # the next round has an SFT again
            shutil.rmtree(policy)
