"""The learner as the driver sees it: one Ray actor per rank, every call made on all ranks in the
same order.

Each wait has a time limit and names the rank and the call it waits for. May know Ray and the
learner; nothing of the driver, engines or rewards."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from actors.gpu_share import hide_others, turn
from actors.processor import set_reproducible_products
from geoagent_rl.config import Config, LearnerConfig
from geoagent_rl.grpo.loss import LOSSES
from geoagent_rl.grpo.samples import TrainGroup, train_group
from geoagent_rl.grpo.schedule import Phase
from geoagent_rl.recovery import LearnerLost
from geoagent_rl.sft import Demonstration
from geoagent_rl.types import Group, InfraError, PolicyVersion

QUIET = {"TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
STOP_TIMEOUT_S = 20.0
FETCH_S = 10.0  # for a picture; it is processed anew after that
# from a broken collective call to the news whose process is gone: at once, or a node's health check
NOTICE_S = 30.0
# Of a machine in trouble, not of what it was asked to do.
PASSING = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EAGAIN, errno.EBUSY, errno.EMFILE,
    errno.ENFILE, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN,
}  # fmt: skip


def rank_environment(c: LearnerConfig) -> dict[str, str]:
    """Return the environment of a rank's process. On a CPU it has a thread for each whole core of
    its own, whatever the shell says: the order in which numbers are added up, and so the last bits
    of a run that is resumed, depend on how many there are."""
    if c.gpus_per_rank > 0:
        return QUIET
    return QUIET | {"DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": str(max(1, int(c.cpus_per_rank)))}


class LearnerRank:
    """One rank's process. Ray runs its calls one after the other, in the order in which they were
    submitted.
    """

    def __init__(self, gpus: float = 0) -> None:
        self.gpus = gpus
        hide_others(gpus)

    def address(self) -> str:
        """Return "host:port", free just now, at which rank 0 will wait for the others."""
        with socket.socket() as s:
            s.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{s.getsockname()[1]}"

    def start(
        self,
        config: Config,
        model_dir: str,
        phase: Phase,
        publishes: bool,
        rank: int,
        world_size: int,
        address: str,
    ) -> PolicyVersion:
        """See Learner. publishes: into Ray's object store, from where engines fetch."""
        set_reproducible_products()
        from actors.learner import Learner

        with turn(self.gpus):
            store = ray.put if publishes else None
            self.learner = Learner(
                config, model_dir, phase, store, rank, world_size, address, fetched
            )
        return self.learner.version

    def call(self, method: str, *args: Any) -> Any:
        """Call a method of Learner."""
        with turn(self.gpus):
            return getattr(self.learner, method)(*args)


class LearnerGroup:
    """All ranks of the learner. Calls are answered by rank 0; an exception of any rank is raised.

    together: groups of rollouts that go to the ranks in one call: as many as fill all of them."""

    def __init__(self, actors: list[Any], timeout_s: float, together: int = 1) -> None:
        self.actors, self.timeout_s, self.together = actors, timeout_s, together
        self.waiting: list[TrainGroup] = []
        self.turn = asyncio.Lock()  # to submit: calls reach all ranks in the order of the callers
        self.latest: asyncio.Event | None = None  # set when the latest call has ended
        self.version: PolicyVersion  # of the start; later ones come from `step` and `load`

    @classmethod
    async def start(
        cls,
        config: Config,
        model_dir: str,
        phase: Phase,
        publishes: bool,
        name: str,
        places: Sequence[Any] = (),
    ) -> LearnerGroup:
        """Start config.learner.ranks actors named "<name>-<rank>"; ready when it returns.

        places: Ray's scheduling strategy of each rank, first to last; none: wherever Ray finds
        room. Raises InfraError when a rank does not come up within learner.timeout_s."""
        c = config.learner
        env = rank_environment(c)
        actors: list[Any] = []
        for rank in range(c.ranks):
            options = {
                "num_cpus": c.cpus_per_rank,
                "num_gpus": c.gpus_per_rank,
                "runtime_env": {"env_vars": env},
            }
            if places:
                options["scheduling_strategy"] = places[rank]
            actors.append(
                ray.remote(LearnerRank)
                .options(name=f"{name}-{rank}", **options)
                .remote(c.gpus_per_rank)
            )
        group = cls(actors, c.timeout_s, groups_together(config))
        try:
            address = await group.answers("address", [actors[0].address.remote()])
            args = (config, model_dir, phase, publishes)
            starts = [
                a.start.remote(*args, rank, c.ranks, address) for rank, a in enumerate(actors)
            ]
            group.version = await group.answers("start", starts)
        except BaseException:
            group.kill()
            raise
        return group

    async def accumulate(self, group: Group) -> None:
        """Hand the group to the ranks, or keep it until the next `step` or until enough are
        together; ready when all ranks have learnt from what was handed over."""
        self.waiting.append(train_group(group))
        if len(self.waiting) >= self.together:
            await self.learn_waiting()

    async def learn_waiting(self) -> None:
        """Hand over what is kept; ready when all ranks have learnt from it."""
        groups, self.waiting = self.waiting, []
        if not groups:
            return
        async with self.turn:
            stored = ray.put(groups)  # one copy, which every rank reads
            await asyncio.sleep(0)  # the event loop's others come between the two long pieces
            refs = self.submit("accumulate_groups", stored)
        await self.in_turn("accumulate_groups", refs)

    async def accumulate_sft(self, demonstrations: Sequence[Demonstration]) -> None:
        """See Learner.accumulate_sft."""
        await self.everywhere("accumulate_sft", demonstrations)

    async def step(self) -> tuple[PolicyVersion, dict[str, float]]:
        """See Learner.step; what is kept is learnt from before."""
        await self.learn_waiting()
        found: tuple[PolicyVersion, dict[str, float]] = await self.everywhere("step")
        return found

    async def save(
        self, directory: str, notes: Mapping[str, Any] | None = None, step: int | None = None
    ) -> list[str]:
        """Save; ready when the state is copied; it is written beside what follows. See
        Learner.save."""
        problems: list[str] = await self.everywhere("save", directory, notes, step)
        return problems

    async def save_problems(self, wait: bool = False) -> list[str]:
        """See Learner.save_problems."""
        problems: list[str] = await self.everywhere("save_problems", wait)
        return problems

    async def load(self, directory: str) -> PolicyVersion:
        """See Learner.load."""
        version: PolicyVersion = await self.everywhere("load", directory)
        return version

    async def save_merged(self, out_dir: str) -> None:
        """See Learner.save_merged."""
        await self.everywhere("save_merged", out_dir)

    async def stop(self) -> None:
        """End all ranks' processes; safe to call on a group that has died."""
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.everywhere("close")
        except (InfraError, TimeoutError):
            pass  # it is being killed anyway
        self.kill()

    def kill(self) -> None:
        """End the processes as they are."""
        for actor in self.actors:
            ray.kill(actor)

    async def everywhere(self, method: str, *args: Any) -> Any:
        """Submit the call to all ranks; return rank 0's answer once all have answered."""
        async with self.turn:
            refs = self.submit(method, *args)
        return await self.in_turn(method, refs)

    def submit(self, method: str, *args: Any) -> list[Any]:
        """Submit a call to all ranks, without waiting in between: none gets what another lacks."""
        return [actor.call.remote(method, *args) for actor in self.actors]

    async def in_turn(self, method: str, refs: Sequence[Any]) -> Any:
        """Return rank 0's answer once all ranks have answered. The time limit begins when the call
        before has ended."""
        before, ended = self.latest, asyncio.Event()
        self.latest = ended
        try:
            if before is not None:
                await before.wait()
            return await self.answers(method, refs)
        finally:
            ended.set()

    async def answers(self, what: str, refs: Sequence[Any]) -> Any:
        """Rank 0's answer once all ranks have answered."""
        futures = [asyncio.wrap_future(ref.future()) for ref in refs]
        done, waiting = await asyncio.wait(
            futures, timeout=self.timeout_s, return_when=asyncio.FIRST_EXCEPTION
        )
        if waiting and any(lost_contact(f.exception()) for f in done):
            # Somebody else is the cause: dead, or stuck. Ray tells of a death later than the broken
            # connection does.
            _, waiting = await asyncio.wait(waiting, timeout=NOTICE_S)
        failed = {
            rank: error
            for rank, f in enumerate(futures)
            if f not in waiting and (error := f.exception())
        }
        late = ", ".join(str(rank) for rank, f in enumerate(futures) if f in waiting)
        for future in waiting:
            future.cancel()
        if failed:
            raise first_cause(what, failed, late)
        if waiting:
            raise LearnerLost(
                f"learner rank {late} did not finish {what!r} in {self.timeout_s:g} s"
            )
        return futures[0].result()


def fetched(picture: Any) -> Any:
    """Return a picture from the object store; None where its engine died meanwhile."""
    try:
        return ray.get(picture, timeout=FETCH_S)
    except RayError:
        return None


def groups_together(config: Config) -> int:
    """Return how many: a group for every rank; where engines sleep meanwhile, the whole step.

    Always the same number, because an exact resume repeats every sum. A loss with token means of
    whole groups takes one group a call."""
    if LOSSES[config.learner.loss].whole_groups:
        return 1
    size = config.rollout.prompts_per_step
    return size if config.placement.colocate else min(config.learner.ranks, size)


def lost_contact(error: BaseException | None) -> bool:
    """Say whether a rank's exception says only that another rank did not take part in a collective
    call."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(cause, RuntimeError) and (
        "gloo" in str(cause) or type(cause).__name__.startswith("Dist")
    )


def first_cause(what: str, failed: dict[int, BaseException], late: str) -> BaseException:
    """Return what to raise for the ranks' exceptions: a death comes first, a rank's own exception
    before lost contacts.

    late: ranks that have not answered.
    """
    dead = [rank for rank, error in failed.items() if isinstance(error, RayActorError)]
    own = [rank for rank, error in failed.items() if not lost_contact(error)]
    rank = [*dead, *own, *failed][0]
    error = failed[rank]
    if rank in dead:
        return LearnerLost(f"learner rank {rank} died in {what!r}: {one_line(error)}")
    cause = (
        error.cause
        if isinstance(error, RayTaskError) and isinstance(error.cause, Exception)
        else error
    )
    if of_the_machine(cause):
        return LearnerLost(
            f"learner rank {rank} failed in {what!r}: {type(cause).__name__}: {one_line(cause)}"
        )
    if not lost_contact(error):
        return cause
    suspect = f", and rank {late} does not answer" if late else ""
    return LearnerLost(
        f"learner rank {rank} lost the others in {what!r}{suspect}: {one_line(cause)}"
    )


def of_the_machine(error: BaseException) -> bool:
    """Say whether it is one of a disk, of memory or of the network, which a new life may not meet.

    Any other error of the system (no such file, no permission, the same file twice) would only be
    met again: it ends the run."""
    if isinstance(error, OSError):
        return error.errno in PASSING or isinstance(error, ConnectionError | TimeoutError)
    kind = type(error).__name__
    number = re.search(r"os error (\d+)", str(error)) if kind == "SafetensorError" else None
    return kind == "OutOfMemoryError" or (number is not None and int(number[1]) in PASSING)


def one_line(error: BaseException) -> str:
    """Return an exception's text without line breaks, cut short."""
    return " ".join(str(error).split())[:300]
