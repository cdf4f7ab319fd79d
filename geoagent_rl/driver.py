"""The training loop of Step III (GRPO), written against protocols: it runs on Ray actors and, in
tests, on fakes.

Invariants. Every started prompt ends in exactly one group, which one step takes (and trains on,
unless dynamic sampling drops it). Groups are taken in the order in which they were started, so a
resumed run, which starts at the first prompt that no finished step has taken, repeats an
uninterrupted one. Each sample is scored the moment it is generated, and a group is accumulated the
moment it is scored: the weights do not change before `learner.step()`, so streaming is exactly
on-policy at `max_staleness` 0. The driver holds ids and small records only. May know nothing of
Ray, vLLM or DeepSpeed."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from geoagent_rl.config import Config
from geoagent_rl.data.images import BadImage
from geoagent_rl.grpo.advantages import group_advantages
from geoagent_rl.grpo.overlong import penalised
from geoagent_rl.grpo.sampling import still_wanted, trains
from geoagent_rl.grpo.staleness import groups_under_way
from geoagent_rl.metrics.batch import sample_metrics, staleness_metrics
from geoagent_rl.metrics.spans import StepClock, time_metrics
from geoagent_rl.types import (
    Group,
    InfraError,
    PolicyVersion,
    Prompt,
    Rollout,
    Sampling,
    ScoredRollout,
    UserError,
)

log = logging.getLogger(__name__)

ATTEMPTS = 3  # of one group's generation, each on another engine where there is one
UNSCORABLE_WINDOW = 5  # steps over which reward.max_unscorable_share is judged
FUTILE_STEPS = 10  # steps in a row without an update after which a run has nothing left to hope for


class Engine(Protocol):
    """See recovery.RestartedEngine."""

    @property
    def up(self) -> bool:
        """Whether it can take work now."""

    @property
    def under_way(self) -> int:
        """How many completions it has been asked for and has not given yet."""
        ...

    async def ready(self) -> None:
        """Wait until it can take work; raise InfraError when it never will."""

    async def answers(self) -> bool:
        """Say whether it does a short request now."""

    def generate(self, prompt: Prompt, sampling: Sampling) -> AsyncIterator[Rollout]:
        """Yield the completions of one prompt as they finish."""
        ...

    def failed(self, problem: Exception) -> None:
        """Learn that work on it failed."""

    async def swap(self, version: PolicyVersion) -> float:
        """Take new weights; return the seconds it took."""
        ...


class Scorer(Protocol):
    """See rewards.scorer.Scorer."""

    async def score(self, prompt: Prompt, rollout: Rollout) -> ScoredRollout:
        """Return every part of the reward and the total."""
        ...


class Learner(Protocol):
    """See actors.learner_group.LearnerGroup."""

    async def accumulate(self, group: Group) -> None:
        """Add the gradients of one group; return when that is done. Others may be handed over
        meanwhile; they are taken in the order of the calls."""

    async def step(self) -> tuple[PolicyVersion, dict[str, float]]:
        """Update the policy; return the new version and the step's metrics."""
        ...


T = TypeVar("T")
OnStep = Callable[[int, dict[str, Any], Sequence[Group]], Awaitable[None]]


async def train(
    config: Config,
    prompt_at: Callable[[int], Prompt],
    engines: Sequence[Engine],
    scorer: Scorer,
    learner: Learner,
    on_step: OnStep,
    first_step: int = 0,
    first_prompt: int | None = None,
) -> None:
    """Run steps first_step .. config.steps - 1; engines must already hold the learner's weights.

    prompt_at(i) is the i-th prompt of the run. `on_step(step, metrics, groups)` is awaited after
    each step, with the step counted from 1; metrics["prompts"] is what a run resumed after this
    step needs as first_prompt (None: every step before first_step took rollout.prompts_per_step).
    Raises UserError above `reward.max_unscorable_share`, InfraError when a part died for good."""
    size = config.rollout.prompts_per_step
    running: deque[asyncio.Task[Group]] = deque()
    learning: list[asyncio.Task[None]] = []  # what the learner has of the step under way
    started = first_step * size if first_prompt is None else first_prompt
    unscorable: deque[float] = deque(maxlen=UNSCORABLE_WINDOW)
    unreadable: deque[float] = deque(maxlen=UNSCORABLE_WINDOW)
    futile = 0
    try:
        for step in range(first_step, config.steps):
            clock = StepClock(start=time.monotonic())
            groups: list[Group] = []
            while wanted := still_wanted(groups, config.rollout):
                while len(running) < groups_under_way(
                    wanted, config.max_staleness, size, config.steps - 1 - step
                ):
                    work = make_group(config, prompt_at(started), started, engines, scorer)
                    running.append(asyncio.create_task(work))
                    started += 1
                groups.append(await running.popleft())
                raise_first(learning)
                if trains(groups[-1], config.rollout):
                    learnt = timed(clock.learning, learner.accumulate(groups[-1]))
                    learning.append(asyncio.create_task(learnt))
            await asyncio.gather(*learning)
            learning.clear()
            prompts = started - len(running)
            row = await uninterrupted(
                finish_step(step + 1, prompts, clock, groups, engines, learner, on_step)
            )
            unscorable.append(unscorable_share(groups))
            stop_if_unscorable(unscorable, config.reward.max_unscorable_share, groups)
            unreadable.append(row["bad_image_share"])
            stop_if_unreadable(unreadable, config.reward.max_unscorable_share, groups)
            futile = futile + 1 if row.get("step_skipped") else 0
            stop_if_futile(futile, row, config.learner.skip_grad_norm)
    finally:
        for task in (*running, *learning):
            task.cancel()
        await asyncio.gather(*running, *learning, return_exceptions=True)


def raise_first(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Raise what one of the tasks that have ended raised."""
    for task in tasks:
        if task.done():
            task.result()


async def finish_step(
    step: int,
    prompts: int,
    clock: StepClock,
    groups: Sequence[Group],
    engines: Sequence[Engine],
    learner: Learner,
    on_step: OnStep,
) -> dict[str, Any]:
    """Optimizer step, new weights to all engines, metrics, which it returns."""
    version, metrics = await timed(clock.learning, learner.step())
    await timed(clock.swapping, asyncio.gather(*(engine.swap(version) for engine in engines)))
    clock.end = time.monotonic()
    trained = version.number - (
        not metrics.get("step_skipped")
    )  # the version that the gradient was taken of
    row = {
        "step": step,
        "prompts": prompts,
        **sample_metrics(groups),
        **staleness_metrics(groups, trained),
    }
    row |= {**metrics, **time_metrics(clock, groups)}
    row["tokens_per_s"] = tokens(groups) / max(row["step_seconds"], 1e-9)
    await on_step(step, row, groups)
    return row


async def uninterrupted(work: Awaitable[Any]) -> Any:
    """Awaits `work`; when cancelled meanwhile, finishes it first: a step that has begun is recorded
    whole.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def make_group(
    config: Config, prompt: Prompt, position: int, engines: Sequence[Engine], scorer: Scorer
) -> Group:
    """Generate and score the G samples of one prompt. One whose picture cannot be decoded gives a
    group without.
    """
    # A prompt that comes again in a later epoch gets other completions.
    sampling = Sampling(config.rollout.group_size, config.run.seed * 1_000_003 + position)
    try:
        scored = await generate_and_score(
            engines, position, scorer, prompt, sampling, config.rollout.timeout_s
        )
    except (
        BadImage
    ) as error:  # damage that the manifest's quick check could not see: one prompt, not the run
        log.warning("%s: left out: %s", prompt.uid, error)
        return Group(prompt, (), ())
    return Group(prompt, tuple(scored), tuple(group_advantages(comparable_totals(config, scored))))


async def generate_and_score(
    engines: Sequence[Engine],
    first: int,
    scorer: Scorer,
    prompt: Prompt,
    sampling: Sampling,
    timeout_s: float,
) -> list[ScoredRollout]:
    """Return the scored samples of a prompt, in index order, from the engine with the least to do.

    A failed engine's work is started again, with the same seed, on another that works; timeout_s is
    for each attempt, scoring included. An engine that is found dead before it gets the work costs
    no attempt: those of one machine die together.
    """
    tried: list[Engine] = []
    for _ in range(ATTEMPTS):
        engine = await first_up(engines, first, tried)
        try:
            async with asyncio.timeout(timeout_s):
                return await stream_scores(engine, scorer, prompt, sampling)
        except (InfraError, TimeoutError) as error:
            problem = error
            engine.failed(error)
            tried.append(engine)
    raise InfraError(
        f"prompt {prompt.uid}: no engine completed it in {ATTEMPTS} attempts; the last said: {problem!r}"
    )


async def first_up(engines: Sequence[Engine], first: int, tried: Sequence[Engine] = ()) -> Engine:
    """Return the engine with the least under way that works, of equals number `first` or the next;
    wait while none works. tried: those that have just failed come last, and then each is asked
    before it is believed. InfraError: all are lost.
    """
    in_line = [engines[(first + i) % len(engines)] for i in range(len(engines))]
    order = sorted(in_line, key=lambda engine: (engine in tried, engine.under_way))
    for engine in order:
        if engine.up and (not tried or await engine.answers()):
            return engine
    waiting = {asyncio.ensure_future(engine.ready()): engine for engine in order}
    lost: BaseException | None = None
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                engine, problem = waiting.pop(task), task.exception()
                if problem is None:
                    return engine
                lost = problem
        assert lost is not None  # a run has an engine
        raise lost
    finally:
        for task in waiting:
            task.cancel()


def comparable_totals(config: Config, scored: Sequence[ScoredRollout]) -> list[float | None]:
    """Return what advantages are made of: the total rewards, after the overlong penalty where that
    is chosen.
    """
    totals, c = [s.total for s in scored], config.learner
    if c.overlong != "penalty":
        return totals
    lengths = [len(s.rollout.completion_ids) for s in scored]
    return penalised(
        totals, lengths, config.rollout.max_tokens, c.overlong_buffer, c.overlong_penalty
    )


async def stream_scores(
    engine: Engine, scorer: Scorer, prompt: Prompt, sampling: Sampling
) -> list[ScoredRollout]:
    """Scores each rollout while the others are still being generated; returns them in index
    order.
    """
    tasks: list[asyncio.Task[ScoredRollout]] = []
    try:
        async for rollout in engine.generate(prompt, sampling):
            tasks.append(asyncio.create_task(stamped(scorer, prompt, rollout)))
        scored = sorted(await asyncio.gather(*tasks), key=lambda s: s.rollout.index)
    finally:
        for task in tasks:
            task.cancel()
    if [s.rollout.index for s in scored] != list(range(sampling.n)):
        raise InfraError(
            f"prompt {prompt.uid}: the engine returned {len(scored)} of {sampling.n} completions"
        )
    return scored


async def stamped(scorer: Scorer, prompt: Prompt, rollout: Rollout) -> ScoredRollout:
    """Scores a rollout and notes when, on this process's clock (engines may run on other machines'
    clocks).
    """
    now = time.monotonic()
    took = rollout.spans["generated"] - rollout.spans["submitted"]
    scored = await scorer.score(prompt, rollout)
    spans = {**rollout.spans, "submitted": now - took, "generated": now, "scored": time.monotonic()}
    return dataclasses.replace(scored, rollout=dataclasses.replace(rollout, spans=spans))


async def timed(into: list[tuple[float, float]], work: Awaitable[T]) -> T:
    """Await `work` and note when it ran."""
    start = time.monotonic()
    try:
        return await work
    finally:
        into.append((start, time.monotonic()))


def tokens(groups: Sequence[Group]) -> int:
    """Return the number of generated tokens."""
    return sum(len(s.rollout.completion_ids) for g in groups for s in g.samples)


def unscorable_share(groups: Sequence[Group]) -> float:
    """Return which share of the samples has no total."""
    totals = [s.total for g in groups for s in g.samples]
    return totals.count(None) / max(len(totals), 1)


def stop_if_unscorable(shares: Sequence[float], limit: float, groups: Sequence[Group]) -> None:
    """Raise UserError when too many samples could not be scored."""
    share = sum(shares) / len(shares)
    if share <= limit:
        return
    reasons = {
        f"{name}: {o.reason}"
        for g in groups
        for s in g.samples
        for name, o in s.parts.items()
        if o.kind == "infra"
    }
    raise UserError(
        f"{share:.0%} of the last {len(shares)} steps' samples could not be scored (limit reward.max_unscorable_share="
        f"{limit}); mend the reward services, then resume. Last reasons: {'; '.join(sorted(reasons)[:3])}"
    )


def stop_if_unreadable(shares: Sequence[float], limit: float, groups: Sequence[Group]) -> None:
    """Raise UserError when too many pictures cannot be opened. One here and there costs its prompt;
    many, over a whole window, are storage that some node does not see.
    """
    share = sum(shares) / len(shares)
    lost = [g.prompt.image for g in groups if not g.samples]
    if len(shares) < UNSCORABLE_WINDOW or share <= limit or not lost:
        return
    raise UserError(
        f"{share:.0%} of the last {len(shares)} steps' pictures could not be opened (limit reward.max_unscorable_share="
        f"{limit}), the last: {lost[-1]}; see that every node has the storage, then resume"
    )


def stop_if_futile(steps: int, row: Mapping[str, Any], skip_grad_norm: float) -> None:
    """Raise UserError after FUTILE_STEPS without an update. steps: how many in a row, up to
    `row`."""
    if steps < FUTILE_STEPS:
        return
    norm = row.get("grad_norm", 0.0)  # absent where it was not finite
    above = f"the gradient's norm is {norm:.3g}, above learner.skip_grad_norm={skip_grad_norm:g}: raise that"
    broken = (
        "losses or gradients are not finite: lower learner.lr and go back to an older checkpoint"
    )
    why = (
        "no sample is learnt from"
        if not row.get("train_tokens")
        else above
        if norm > skip_grad_norm > 0
        else broken
    )
    raise UserError(f"{steps} steps in a row changed nothing; {why}, then resume")
