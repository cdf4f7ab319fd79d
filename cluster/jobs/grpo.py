"""Step III (GRPO) on a running session: from a checkpoint or where a killed run stopped, to
RUN/policy.

Resuming: the learner takes the newest whole checkpoint, the engines take its weights, what was
recorded later is cut off, and the driver goes on with the first prompt that no finished step has
taken. At max_staleness 0 on CPUs the rest is what it would have been (docs/resume.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.learner_group import LearnerGroup
from cluster.jobs.metric_sinks import Tracking
from cluster.launch import Session, Stack, learner
from cluster.machine_metrics import watched
from geoagent_rl import driver
from geoagent_rl.colocate import ColocatedLearner, ScorerAfterRollout
from geoagent_rl.config import Config
from geoagent_rl.config.schedule import measured
from geoagent_rl.data.curriculum import PromptOrder, rated
from geoagent_rl.data.earned import BY_REWARD, Earned
from geoagent_rl.data.sample import Sample
from geoagent_rl.evaluation.locate import Prediction, locate
from geoagent_rl.grpo.schedule import grpo_phase
from geoagent_rl.metrics.batch import mean
from geoagent_rl.metrics.line import summary_line
from geoagent_rl.plan.resources import judges_share_gpus
from geoagent_rl.policy.checkpoint import checkpoint_dir
from geoagent_rl.recovery import LearnerLost, restarting_learner
from geoagent_rl.run import checkpoints, records
from geoagent_rl.run.directory import RunDir
from geoagent_rl.run.origin import check_origin, origin_kept, origin_of
from geoagent_rl.terminal import phase, progress, say
from geoagent_rl.types import Group, InfraError, Prompt, Sampling

PART_SHARE = "unscorable_share_"  # the metrics of one part each


async def reinforce(
    s: Session,
    stack: Stack,
    run: RunDir,
    model_dir: str,
    samples: Sequence[Sample],
    held: Sequence[Sample] = (),
    resume: bool = False,
    accept: bool = False,
) -> None:
    """Run GRPO from `model_dir`; writes metrics, rollouts, checkpoints and, in the end, RUN/policy.

    held: pictures to validate on, of which run.validate_samples are used. accept: go on although
    prompts or base weights are not those of the checkpoint (run/origin.py). A learner that dies is
    started again from the newest checkpoint, so at most run.save_every steps are done twice."""

    prompts, plan = [x.prompt() for x in samples], s.config.curriculum
    earned = Earned(s.config) if plan.by in BY_REWARD else None
    ease_at = earned.ease_at if earned else None
    order = PromptOrder(rated(samples, plan.by), s.config.run.seed, plan, ease_at)
    base = checkpoint_dir(model_dir)
    with phase("digests of prompts and base weights"):
        origin = await asyncio.to_thread(origin_of, prompts, s.config.run.seed, base)
    work = Work(stack, run, model_dir, prompts, order, earned, held, origin, accept)

    async def attempt(life: int) -> None:
        await reinforce_once(s, work, resume or life > 0, life)

    await restarting_learner(attempt, s.config.learner.max_restarts)


@dataclass(frozen=True)
class Work:
    """What every life of the learner works on."""

    stack: Stack
    run: RunDir
    model_dir: str
    prompts: Sequence[Prompt]
    order: PromptOrder
    earned: Earned | None  # where the order follows it
    held: Sequence[Sample]
    origin: Mapping[str, str]
    accept: bool


async def reinforce_once(s: Session, work: Work, resume: bool, life: int) -> None:
    """Do what `reinforce` does with one life of the learner. Raises LearnerLost when that ends."""
    config, stack, run = s.config, work.stack, work.run
    stage = grpo_phase(config)
    async with learner(s, work.model_dir, stage, life) as group, watched(s.run_id) as load:
        if life or stack.model_dir != work.model_dir:  # the base, which adapters go on
            await asyncio.gather(*(engine.swap(group.version) for engine in stack.engines))
        first, prompt = await restore(group, run, work) if resume else (0, 0)
        if first:
            with phase("giving the engines the learner's weights"):
                await asyncio.gather(*(engine.swap(group.version) for engine in stack.engines))
        await prewarmed(work, config)
        validation = work.held[: config.run.validate_samples]
        tracking = Tracking(config, run.path, s.run_id, first, goes_on=resume)
        reporting = validation, load, tracking, work.origin, work.order, work.earned
        after = AfterStep(config, stack, run, group, *reporting, first, prompt, *run.best())
        if not resume:
            await after.save(0)  # what a learner that dies soon goes back to
        try:
            learning = (
                ColocatedLearner(group, stack.engines) if config.placement.colocate else group
            )
            scorer = (
                ScorerAfterRollout(stack.scorer, stack.engines)
                if judges_share_gpus(config)
                else stack.scorer
            )
            with progress("GRPO", tenths=False) as after.progress:
                after.progress(first, config.steps)
                parts = stack.engines, scorer, learning
                await driver.train(config, work.order, *parts, after.step, first, prompt)
        except LearnerLost:
            raise  # it has nothing left to save
        except BaseException:
            await driver.uninterrupted(after.save_on_the_way_out())
            raise
        finally:
            tracking.close()
        with phase("writing the policy"):
            await after.saved()
            run.settle()
            await group.save_merged(str(run.path / "policy"))


async def prewarmed(work: Work, config: Config) -> None:
    """Ask what right answers will ask, where reward.geocoder.prewarm wants it."""
    if config.reward.geocoder.prewarm:
        truths = (prompt.truth.levels for prompt in work.prompts)
        with phase("asking the reward services about all truths"):
            failed = await work.stack.services.prewarm(truths)
        say(f"asked the reward services about {len(work.prompts)} truths, {failed} failed")


async def restore(
    group: LearnerGroup, run: RunDir, work: Work | None = None
) -> tuple[int, int | None]:
    """Put learner and run directory back to the newest whole checkpoint; return (steps done,
    prompts taken) then. Raises UserError where the run would go on with something else."""
    folder, recorded = run.path / "checkpoints", run.recorded_steps()
    newest = await asyncio.to_thread(checkpoints.newest_whole, folder, say, recorded)
    first = 0
    prompt: int | None = 0
    if newest is not None:
        state = checkpoints.state_of(newest)
        if work is not None:
            for line in check_origin(origin_kept(state), work.origin, work.accept):
                say(line)
        group.version, first = await group.load(str(newest)), checkpoints.step_of(newest)
        prompt = state.get("prompts")
    run.truncate(first)
    if work is not None and work.earned:
        answers = records.read_rows(run.path / "rollouts.jsonl")
        work.earned.restore(run.rows("metrics.jsonl"), answers)
    say(
        f"resuming after step {first} from {newest}"
        if newest
        else "no checkpoint yet: starting again at step 1"
    )
    return first, prompt


@dataclass
class AfterStep:
    """What follows an optimizer step: validation, the records, the live line, a checkpoint.

    The checkpoint comes last, so a run that is killed never holds one that is ahead of its records.
    """

    config: Config
    stack: Stack
    run: RunDir
    group: LearnerGroup
    validation: Sequence[Sample]
    load: Mapping[str, float]  # what the machines are doing
    tracking: Tracking
    origin: Mapping[str, str]  # digests that its checkpoints keep: run/origin.py
    order: PromptOrder
    earned: Earned | None
    done: int  # steps finished and recorded
    prompts: int | None  # taken by them
    best: int | None  # step of the best validation
    best_reward: float
    save_seconds: float = 0.0  # of the last checkpoint
    unsaved: int = 0
    progress: Callable[[int, int], None] = lambda done, total: None

    async def step(self, step: int, metrics: dict[str, Any], groups: Sequence[Group]) -> None:
        """Record a step; validate, plot and save where it is time."""
        metrics |= (
            await self.stack.services.cache_metrics() | dict(self.load) | await self.validated(step)
        )
        self.warn(await self.group.save_problems())
        metrics |= {"save_seconds": self.save_seconds, "unsaved_checkpoints": self.unsaved}
        metrics |= measured(self.config.reward.schedules, metrics["version"])
        metrics |= self.order.reported(range(self.taken(), metrics["prompts"]))
        self.run.record_step(metrics, groups)
        if self.earned:
            self.earned.add(step, metrics["prompts"], groups)
        for problem in self.run.take_problems():
            say(f"WARNING: {problem}")
        for name, share in metrics.items():
            if name.startswith(PART_SHARE) and share >= 1.0:
                part = name.removeprefix(PART_SHARE)
                say(f"WARNING: step {step}: the reward part {part} failed on every sample")
        self.done, self.prompts = step, metrics["prompts"]
        self.tracking.write(step, metrics, groups)
        say(summary_line(step, self.config.steps, metrics))
        self.progress(step, self.config.steps)
        every, last = self.config.run.save_every, step == self.config.steps
        self.save_seconds = 0.0
        if (step % every == 0 or last or step == self.best) and not self.run.waiting:
            await self.save(step)
        self.tidy()

    def taken(self) -> int:
        """Return how many prompts the steps so far have taken; checkpoints of old did not say."""
        size = self.config.rollout.prompts_per_step
        return self.done * size if self.prompts is None else self.prompts

    async def validated(self, step: int) -> dict[str, float]:
        """Return the validation's metrics where this step has one; note whether the policy is the
        best so far.
        """
        every, c = self.config.run.validate_every, self.config
        if not every or step % every:
            return {}
        start = time.monotonic()
        rows: list[Prediction] = []
        sampling = Sampling(1, c.run.seed, c.eval.temperature)
        engines, scorer = self.stack.engines, self.stack.scorer
        await locate(self.validation, engines, scorer, sampling, c.rollout, rows.append)
        rewards = [row["reward_total"] for row in rows if row.get("reward_total") is not None]
        reward = mean(rewards)  # NaN when none could be scored
        if reward > self.best_reward:
            self.best, self.best_reward = step, reward
            say(f"step {step}: best validation so far, reward {reward:.3f}")
        return {"validation_reward": reward, "validation_seconds": time.monotonic() - start}

    async def save(self, step: int) -> None:
        """Save; ready when the records are on disk and the learner's state is copied; the learner
        writes that beside the next step."""
        start = time.monotonic()
        try:
            await asyncio.to_thread(self.run.sync)
        except OSError as error:
            self.warn([f"the records are not on disk: {error}"])
            return
        notes = {"prompts": self.prompts, "origin": self.origin}
        self.warn(await self.group.save(str(self.run.checkpoint(step)), notes, step))
        self.save_seconds = time.monotonic() - start

    async def saved(self) -> None:
        """Wait for the checkpoint that is being written; try once more to write the records that
        wait for room.
        """
        for name in list(self.run.waiting):
            self.run.append(name, [])
        for problem in self.run.take_problems():
            say(f"WARNING: {problem}")
        self.warn(await self.group.save_problems(wait=True))
        self.tidy()

    def warn(self, problems: Sequence[str]) -> None:
        """Say what went wrong with checkpoints, and count it."""
        self.unsaved += len(problems)
        for problem in problems:
            say(
                f"WARNING: a checkpoint could not be saved; the run goes on with the older ones. {problem}"
            )

    def tidy(self) -> None:
        """Remove the checkpoints that are no longer kept."""
        checkpoints.tidy(self.run.path / "checkpoints", self.config.run.keep_checkpoints, self.best)

    async def save_on_the_way_out(self) -> None:
        """Write a checkpoint of the last step; say so when the learner can no longer give one."""
        try:
            await self.saved()
            if self.run.waiting:
                say(f"step {self.done} is not saved: its records found no room")
                return
            where = self.run.checkpoint(self.done)
            if self.done and not where.exists():
                await self.save(self.done)
                await self.saved()
            if where.exists():
                say(f"saved {where}; `train --resume run.dir={self.run.path}` continues from there")
        except InfraError as error:
            say(f"step {self.done} could not be saved: {error}")
