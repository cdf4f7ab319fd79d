"""The records that travel through one step: Prompt -> Rollout -> ScoredRollout -> Group ->
PolicyVersion.

All are frozen, small and picklable; images travel as paths. May know nothing of Ray, vLLM,
DeepSpeed or Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# What an answer looks like: see answers/forms.py.
AnswerForm = Literal[
    "levels",
    "json_levels",
    "country_city",
    "country_region",
    "lat_lon",
    "country_city_lat_lon",
    "json_lat_lon",
]


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a photograph was really taken. lat, lon in degrees (WGS84); names may be empty."""

    country: str
    region: str
    place: str
    lat: float
    lon: float

    @property
    def levels(self) -> tuple[str, str, str]:
        """Return country, region and place."""
        return (self.country, self.region, self.place)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One photograph to be located. `image` is an absolute path, already checked by data.images."""

    uid: str
    image: str
    truth: Truth
    columns: Mapping[str, str] = field(default_factory=dict)  # further ones of the manifest


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the completions of one prompt are drawn.

    Each completion has a random stream of its own, from `seed`, the prompt's uid and its index: it
    depends neither on other prompts nor on `n`. Token ids in `banned` are never drawn, beside those
    that no policy may draw (policy/prompt.py)."""

    n: int  # completions
    seed: int
    temperature: float | None = None  # None: rollout.temperature; 0: greedy
    banned: tuple[int, ...] = ()
    learnt: bool = False  # a learner learns from them: their picture is kept for it


@dataclass(frozen=True, slots=True)
class Rollout:
    """One completion of a prompt by one policy version.

    `logprobs` are the engine's processed log-probabilities (temperature and bans applied) of
    `completion_ids`.
    `spans` holds monotonic seconds: submitted, generated and, once the driver has it scored,
    scored. `picture`: on one completion of a group that is learnt, its processed picture, or what
    stands for it between actors."""

    uid: str
    index: int  # 0 .. G-1 within the group
    prompt_ids: tuple[int, ...]  # with image tokens expanded, as the engine saw them
    completion_ids: tuple[int, ...]  # with the end token where the model produced one
    logprobs: tuple[float, ...]
    text: str
    finish_reason: Literal["stop", "length"]
    version: int
    spans: Mapping[str, float] = field(default_factory=dict)
    picture: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one reward part: a score, a data failure (a score with a reason) or an infra
    failure (no score).

    kind "score": judged on its merits. kind "data": the answer itself is at fault (no tags, unknown
    place); `score` is real, usually 0. kind "infra": a machine or a service failed; `score` is None
    and the sample is unscorable. kind "left_out": the truth says nothing that this part could
    judge; `score` is None, and the other parts make up the total of every sample of the prompt."""

    kind: Literal["score", "data", "infra", "left_out"]
    score: float | None
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.kind in ("infra", "left_out")) != (self.score is None):
            raise ValueError(
                f"an outcome has no score exactly when it failed or is left out: {self.kind}, {self.score}"
            )


@dataclass(frozen=True, slots=True)
class ScoredRollout:
    """A rollout with every reward part. `total` is None when a required part is an infra failure
    (unscorable).
    """

    rollout: Rollout
    parts: Mapping[str, Outcome]
    total: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """The G scored rollouts of one prompt and their advantages (0.0 for unscorable samples).

    A group without samples was dropped: its picture cannot be decoded (`lost` False), or no engine
    completed it in several attempts (`lost` True). `reason` says why."""

    prompt: Prompt
    samples: tuple[ScoredRollout, ...]
    advantages: tuple[float, ...]
    reason: str = ""
    lost: bool = False


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """Weights that an engine can take: number 0 is the start.

    kind "checkpoint": a whole one in `path`, to load in place. kind "adapter": one that goes on the
    checkpoint that was taken last; `files` are those of its PEFT directory, name to bytes, or
    between actors what stands for them (actors/remote_rollout.py). `probe_logprobs` are the
    learner's per-token log-probabilities of a fixed probe and `digest` is that of the published
    tensors (policy/digest.py, "" for a checkpoint of others): against both an engine proves that it
    really took the weights."""

    number: int
    kind: Literal["checkpoint", "adapter"]
    path: str = ""
    probe_logprobs: tuple[float, ...] = ()
    digest: str = ""
    files: Any = field(default=None, compare=False, repr=False)


class InfraError(Exception):
    """A machine or a service failed (timeout, dead actor, quota, 5xx): retry elsewhere, never a
    score.
    """


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong and what to do."""
