"""Sections of the configuration: the parts of the reward and what scoring one sample may take."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from geoagent_rl.config.services import (
    CacheConfig,
    EncoderConfig,
    GeocoderConfig,
    JudgeConfig,
    NominatimConfig,
    OpenCageConfig,
    PhotonConfig,
    Replicas,
)
from geoagent_rl.config.values import (
    RULES,
    Count,
    Natural,
    NotNegative,
    Positive,
    Share,
    key,
)

__all__ = [
    "CacheConfig",
    "ConsistencyConfig",
    "CustomConfig",
    "EncoderConfig",
    "ExactMatchConfig",
    "FormatConfig",
    "GeocoderConfig",
    "JudgeConfig",
    "NominatimConfig",
    "OpenCageConfig",
    "PhotonConfig",
    "Replicas",
    "RewardConfig",
    "SemanticConfig",
    "SpatialConfig",
    "Weights",
]

Shape = Literal["exponential", "logistic", "knots", "steps"]
LevelWeights = tuple[NotNegative, NotNegative, NotNegative]


@dataclass(config=RULES)
class Weights:
    """The weight of each part in the total reward. Parts of weight 0 are not asked for."""

    spatial: NotNegative = key(1.5, "exp(-d / tau_km) of the distance d of the answer.")
    semantic: NotNegative = key(1.0, "Country, region and place are named right.")
    consistency: NotNegative = key(
        0.5, "The reasoning leads to the conclusions, as the judge reads it."
    )
    format: NotNegative = key(0.5, "The answer keeps the format.")
    answer_format: NotNegative = key(
        0.0,
        "The answer block alone has two or three levels. The authors' code pays it beside format.",
    )
    exact_match: NotNegative = key(0.0, "A baseline for ablations: see reward.exact_match.")


@dataclass(config=RULES)
class SpatialConfig:
    """The spatial reward."""

    shape: Shape = key("exponential", "The curve over the distance: see rewards/distance.py.")
    tau_km: Positive = key(
        200.0, "The length scale of exponential (where it is 1/e) and logistic.", "km"
    )
    points: tuple[tuple[NotNegative, float], ...] = key(
        (), "[km, value] of the shapes knots and steps, by rising km."
    )
    truth: Literal["coordinates", "geocoded"] = key(
        "coordinates",
        "The true place is that of the coordinates, or of the true names, geocoded like the answer "
        "(the authors' code).",
    )
    cut_km: NotNegative = key(
        0.0, "The reward is 0 from this distance on. 0: there is no cut.", "km"
    )
    unparsed: float = key(0.0, "What an answer earns that names no known place or position.")
    gate: tuple[Share, ...] = key(
        (),
        "Names first (Geo-ADAPT): [a, b] pays 0 for a wrong country, a times the curve for the "
        "right country alone, a + b times the curve for country and place. Empty: no gate.",
    )


@dataclass(config=RULES)
class SemanticConfig:
    """The semantic reward."""

    weights: LevelWeights = key((0.1, 0.6, 0.3), "The weights of country, region and place.")
    gates: tuple[Share, Share] = key(
        (0.7, 0.5),
        "Region counts above the first similarity, place above the second. They are the paper's, "
        "for its encoder. Similarities of other encoders have another scale, so change both "
        "together: alone, USE tells names apart best at 0.84 and all-MiniLM-L6 at 0.92 "
        "(tests/benchmarks/bench_names.py). With names_first little is left to the encoder, and "
        "0.5 to 0.7 serves both.",
    )
    names_first: bool = key(
        True,
        "What the gazetteer knows is 1.0 (one place) or 0.0 (two) before an encoder is asked.",
    )
    below_gate_counts: bool = key(
        False,
        "A similarity below its gate still earns. It closes the finer levels either way.",
    )
    missing_truth: Literal["rescale", "cap"] = key(
        "rescale",
        "Where the truth does not name a level, the others are rescaled, or the score is capped.",
    )


@dataclass(config=RULES)
class ConsistencyConfig:
    """The consistency reward."""

    weights: LevelWeights = key((0.1, 0.6, 0.3), "The weights of country, region and place.")
    min_chars: Natural = key(90, "Shorter reasoning scores 0.", "characters")
    max_chars: Natural = key(200, "Longer reasoning scores in full.", "characters")
    steepness: NotNegative = key(8.0, "How steeply the length factor rises between the two.")
    midpoint: Share = key(
        0.5, "The length factor is one half here, as a share of the way between the two."
    )
    against: Literal["own", "truth"] = key(
        "own", "The agent must agree with the policy's own conclusion, or with the truth."
    )
    agreement: Literal["names", "string"] = key(
        "names",
        "names: equal as names or by the gazetteer. string: equal text but for spaces, even if "
        "empty.",
    )


@dataclass(config=RULES)
class FormatConfig:
    """The format reward."""

    style: Literal["full", "tags"] = key(
        "full",
        "full: tags, JSON and a full answer. tags: the blocks alone, whatever is in them.",
    )


@dataclass(config=RULES)
class ExactMatchConfig:
    """The rewards of other projects, as baselines (rewards/exact_match.py)."""

    style: Literal["globe", "gre", "geovista"] = key("geovista", "Whose reward it is.")
    scale_km: Positive = key(200.0, "The scale of the GRE style.", "km")


@dataclass(config=RULES)
class CustomConfig:
    """A reward of your own: reward.custom.NAME. docs/rewards.md shows one."""

    function: Annotated[
        str, Field(description='"module:function", importable where the run is started.')
    ]
    weight: float = key(1.0, "Its weight in the total. A penalty has a negative one.")


@dataclass(config=RULES)
class ScheduleConfig:
    """A number of the reward that changes with the step (GRE Suite, geospot)."""

    of: str = key("", "The number's key below reward, such as spatial.tau_km.")
    kind: Literal["constant", "linear", "geometric", "piecewise"] = key(
        "linear", "How the number goes from start to end: see config/schedule.py."
    )
    start: float = key(0.0, "The number at the first step; of constant, at every step.")
    end: float = key(0.0, "The number from the last step of the schedule on.")
    steps: Count = key(1, "The schedule's length.", "steps")
    points: tuple[tuple[NotNegative, float], ...] = key(
        (), "[step, value] of piecewise, by rising step."
    )


@dataclass(config=RULES)
class RewardConfig:
    """The total reward and what scoring one sample may take."""

    weights: Weights = field(default_factory=Weights)
    required: tuple[str, ...] = key(
        ("spatial", "semantic", "consistency", "format"),
        "Without one of these parts a sample is unscorable.",
    )
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    format: FormatConfig = field(default_factory=FormatConfig)
    exact_match: ExactMatchConfig = field(default_factory=ExactMatchConfig)
    schedules: tuple[ScheduleConfig, ...] = key(
        (), "Numbers of the reward that change with the step, each with its own of, kind and ends."
    )
    custom: dict[str, CustomConfig] = Field(
        default_factory=dict, description="Rewards of your own, by name."
    )
    geocoder: GeocoderConfig = field(default_factory=GeocoderConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    deadline_s: Positive = key(120.0, "The limit for one sample, retries included.", "s")
    attempt_timeout_s: Positive = key(60.0, "The limit of one try at one part.", "s")
    max_unscorable_share: Share = key(
        0.2, "The run stops when a larger share of recent samples is unscorable."
    )
