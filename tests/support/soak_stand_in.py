"""The soak's quick program: soak_life.py's run, forked, struck by signals and power cuts.

Everything that decides over a run's files is real; a round takes seconds, so many states are seen.
What only real processes show (Ray, engines, services) is soak_real.py's."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from tests.benchmarks.soak_plan import NothingThereError, Undo
from tests.support import power_cut

STEPS, PROMPTS, GROUP = 8, 3, 4
SHAPES = {
    "every step": ["run.save_every=1", "run.keep_checkpoints=2"],
    "every third": ["run.save_every=3"],
    "evaluated": ["run.save_every=2", "run.validate_every=2", "data.eval_manifest=PHOTOS"],
}
START, AGAIN = r"reading .* \.\.\.", r"resuming after|no checkpoint yet"
MOMENTS = {shape: (START, *(f"step {i}/" for i in range(1, STEPS)), AGAIN) for shape in SHAPES}
ENGINE_DIES, LEARNER_DIES = signal.SIGUSR1, signal.SIGUSR2
CLOCK_JUMPS, DISK_FILLS = signal.SIGWINCH, signal.SIGURG
END_S = 20.0


def live(*words: object) -> None:
    """soak_life.live, which only the forked process imports: it takes seconds."""
    from tests.support import soak_life

    soak_life.live(*words)


class ForkedLife:
    """One forked process."""

    def __init__(self, forks: multiprocessing.context.ForkServerContext, ground: StandIn) -> None:
        self.ground, self.log = ground, ground.box / "log"
        self.log.unlink(missing_ok=True)
        words = [word.replace("PHOTOS", str(ground.photos)) for word in SHAPES[ground.shape]]
        places = (str(ground.folder), str(ground.photos), str(self.log), str(ground.shadow))
        self.process = forks.Process(target=live, args=(*places, words))
        self.process.start()

    def lines(self) -> list[str]:
        """What it has said."""
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []

    def ended(self) -> int | None:
        """Its exit code."""
        return self.process.exitcode

    def send(self, *numbers: int) -> None:
        """Signals, all at once. A process that has not yet said anything has no handlers yet."""
        if not self.lines():
            raise NothingThereError
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.join(END_S)


def stopped(life: ForkedLife) -> Undo:
    """SIGSTOP for a while."""
    life.send(signal.SIGSTOP)
    return 0.3, lambda: life.send(signal.SIGCONT)


def power_cut_(life: ForkedLife) -> None:
    """All of the machine goes at once, and with it what was not synced."""
    life.kill()
    if life.ended() == 0:  # nothing that was removed by then may come back half
        raise NothingThereError
    life.ground.cut()


KINDS: dict[str, Callable[[ForkedLife], Undo | None]] = {
    "SIGKILL of the driver": lambda life: life.kill(),
    "power cut": power_cut_,
    "SIGSTOP of the driver": stopped,
    "SIGTERM": lambda life: life.send(signal.SIGTERM),
    "SIGTERM and SIGINT, 4 times": lambda life: life.send(*[signal.SIGTERM, signal.SIGINT] * 2),
    "SIGHUP": lambda life: life.send(signal.SIGHUP),
    "an engine dies": lambda life: life.send(ENGINE_DIES),
    "the learner dies": lambda life: life.send(LEARNER_DIES),
    "the disk is full for 0.3 s": lambda life: life.send(DISK_FILLS),
    "the wall clock jumps": lambda life: life.send(CLOCK_JUMPS),
}


class StandIn:
    """The Program of the stand-in run."""

    name, poll_s, limit_s, longest_s = "stand-in", 0.005, 60.0, 0.15
    steps, samples = STEPS, PROMPTS * GROUP
    moments, kinds = MOMENTS, KINDS

    def __init__(self, into: Path) -> None:
        """into: of the campaign, whose undisturbed runs have the same photographs."""
        self.inputs = into / "inputs"
        self.photos = self.inputs / "photos"

    def __enter__(self) -> StandIn:
        self.forks = multiprocessing.get_context("forkserver")
        self.forks.set_forkserver_preload(["tests.support.soak_life"])
        self.photos.mkdir(parents=True, exist_ok=True)
        rows = ["image,lat,lon,country,region,place"]
        for i in range(STEPS * PROMPTS):
            Image.new("RGB", (32, 24), (9 * i, 90, 30)).save(self.photos / f"{i}.png")
            rows.append(f"{i}.png,{i + 1},{i + 1},Nigeria,Lagos,Lagos")
        (self.photos / "table.csv").write_text("\n".join(rows) + "\n")
        (self.inputs / "model").mkdir(exist_ok=True)
        (self.inputs / "model" / "config.json").write_text("{}")
        self.held: list[int] = []
        self.cuts = 0  # of this round
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left outside the campaign's folder."""

    @contextlib.contextmanager
    def life(self, folder: Path, shape: str) -> Iterator[ForkedLife]:
        """Start the run in `folder`, or go on with it."""
        self.folder, self.shape = folder, shape
        self.box = folder.with_name(folder.name + ".box")
        self.shadow = self.box / "shadow"
        self.box.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
        life = ForkedLife(self.forks, self)
        try:
            yield life
        finally:
            life.kill()
            # a directory's number stays its own until the round is over
            self.held += [os.open(p, os.O_RDONLY) for p in folder.rglob("*") if p.is_dir()]

    def cut(self) -> None:
        """Lose what was not synced; the round's number and the cut's decide what that is."""
        self.cuts += 1
        power_cut.cut(self.folder, self.shadow, random.Random(f"{self.folder.name}/{self.cuts}"))

    def left_behind(self) -> Iterator[str]:
        """Nothing lives outside the run's directory."""
        for handle in self.held:
            os.close(handle)
        self.held.clear()
        self.cuts = 0
        shutil.rmtree(self.box)
        yield from ()
