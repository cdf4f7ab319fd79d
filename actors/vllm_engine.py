"""What the rollout actor and the consistency agent share: engine arguments, environment, start and
stop of vLLM.

One set of arguments serves the CPU and the GPU build. May know vLLM and the configuration; nothing
of Ray, policies, prompts or rewards. Everything that imports vLLM does so inside a function: the
environment must be set before."""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Awaitable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, TypeVar

from actors.node_files import folder_here
from actors.processor import set_reproducible_products
from geoagent_rl.config import Config, RolloutConfig
from geoagent_rl.config.reward import JudgeConfig
from geoagent_rl.config.rules import LORA_RANKS
from geoagent_rl.plan.memory import GIB, sequences
from geoagent_rl.policy.sizes import known_architecture
from geoagent_rl.types import InfraError

T = TypeVar("T")
CHILD_MARK = (
    "GEOAGENT_ENGINE_CHILD"  # in the environment of the processes that an engine of ours spawns
)


def rollout_engine_args(config: Config, model: str, image_budget: dict[str, Any]) -> dict[str, Any]:
    """Return arguments of vLLM's AsyncEngineArgs for the rollout engine. Pure: the same for every
    engine of a run.

    image_budget: the image processor's keyword arguments, the same as the learner's
    (policy/prompt.py). `processed_logprobs` are those of the distribution that was sampled from
    (temperature and bans applied), which is what the learner computes too."""
    rollout = config.rollout
    args = common_args(model, rollout.gpus_per_engine, rollout)
    args |= {
        "dtype": config.policy.dtype,
        "max_num_seqs": sequences(config, known_architecture(model)),
        "seed": config.run.seed,
        "logprobs_mode": "processed_logprobs",
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "worker_extension_cls": "actors.vllm_worker.PublishedWeights",
        "mm_processor_kwargs": image_budget,
        "mm_processor_cache_gb": 0.5 if rollout.gpus_per_engine == 0 else 4,
    }
    if config.policy.dtype == "bfloat16":  # as in the learner: policy/logits.py
        args["hf_overrides"] = {"head_dtype": "float32"}
    if config.placement.colocate:
        args["enable_sleep_mode"] = True
    if rollout.swap == "adapter":
        kept = config.max_staleness + 2
        args |= {
            "enable_lora": True,
            "max_lora_rank": next(rank for rank in LORA_RANKS if rank >= config.policy.lora_rank),
            "max_loras": config.max_staleness + 1,
            "max_cpu_loras": kept,
        }
    return args


def judge_engine_args(judge: JudgeConfig, model: str, dtype: str) -> dict[str, Any]:
    """Return arguments of vLLM's AsyncEngineArgs for the consistency agent: text only, greedy, so
    no log-probabilities."""
    return common_args(model, judge.gpus_per_replica, judge) | {"dtype": dtype, "seed": 0}


def common_args(model: str, gpus: float, section: RolloutConfig | JudgeConfig) -> dict[str, Any]:
    """Return what both engines have in common. On CPU: no compilation and an explicit cache size,
    with which vLLM has nothing to warm up; whole prefills only, because vLLM 0.32 rewinds a
    request's generator after a partial one and CPU generators cannot ("CPU Generator does not use
    offset"); and blocks short enough for the prefix cache to serve short prompts."""
    args = {
        "model": model,
        "tensor_parallel_size": section.tensor_parallel,
        "max_model_len": section.max_model_len,
        "max_num_seqs": section.max_num_seqs,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "enable_log_requests": False,
        "use_tqdm_on_load": False,
    }
    if gpus > 0:
        # vLLM's own choice for several GPUs inside a placement group is Ray, which refuses a bundle
        # that has them all.
        processes = {"distributed_executor_backend": "mp"} if section.tensor_parallel > 1 else {}
        return args | processes | {"gpu_memory_utilization": section.memory}
    return args | {
        "enforce_eager": True,
        "kv_cache_memory_bytes": int(section.memory * GIB),
        "block_size": 32,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(8192, section.max_model_len),
        "skip_mm_profiling": True,
    }


def set_environment(cpu: bool) -> None:
    """Set what vLLM reads from the environment, before it is imported. What the user has set
    stays."""
    os.environ[CHILD_MARK] = "1"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # FlashInfer's sampler is compiled when it is first used, with a CUDA compiler that a machine
    # with a driver alone does not have.
    os.environ.setdefault("VLLM_USE_FLASHINFER_SAMPLER", "0")
    if not {"VLLM_LOGGING_LEVEL", "VLLM_LOGGING_CONFIG_PATH"} & set(os.environ):
        # vLLM's own set-up (dictConfig) closes all handlers of the process. Ray Serve's is among
        # them, and a controller that was started again replaces a judge without it as broken.
        # Python itself prints warnings, from this up.
        os.environ.setdefault("VLLM_CONFIGURE_LOGGING", "0")
    if cpu:
        set_reproducible_products()
        os.environ.setdefault(
            "VLLM_CPU_OMP_THREADS_BIND", "nobind"
        )  # several engines share the cores
        os.environ.setdefault(
            "OMP_NUM_THREADS", "1"
        )  # more threads than free cores slow vLLM down by an order
        os.environ.setdefault(
            "VLLM_CPU_ATTN_SPLIT_KV", "0"
        )  # results independent of the batch: see cpu_invariance.py
        # AsyncLLM always has an engine process; this keeps the worker inside it instead of in a
        # third one.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


def start_engine(args: dict[str, Any], held: ExitStack) -> Any:
    """Start an AsyncLLM (blocks: 10-30 s, mostly imports in two processes), which ends, its sockets
    with it, when `held` is closed. InfraError when it does not come up.
    """
    set_environment(cpu="kv_cache_memory_bytes" in args)
    # vLLM leaves its sockets where it made them, among everybody's temporary files.
    os.environ["VLLM_RPC_BASE_PATH"] = str(held.enter_context(folder_here()))
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**args))
    except (RuntimeError, ValueError, OSError) as error:
        raise InfraError(f"vLLM did not start with {args['model']}: {one_line(error)}") from error
    held.callback(engine.shutdown, timeout=5)
    return engine


def die_with_parent() -> None:
    """End a process that an engine of ours spawned the moment its parent is gone, however that
    died.

    vLLM's engine process does not notice a SIGKILL of its parent. The pipe that multiprocessing's
    spawn leaves open to the parent does."""
    parent = multiprocessing.parent_process()
    if parent is None or CHILD_MARK not in os.environ:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


def meet_in_own_folder() -> None:
    """Make a process that an engine of ours spawned keep the file by which its workers find each
    other beside its sockets. vLLM makes it among everybody's temporary files, where a kill leaves
    it."""
    if multiprocessing.parent_process() and CHILD_MARK in os.environ:
        from vllm.utils import network_utils

        folder = os.environ["VLLM_RPC_BASE_PATH"]
        # vLLM asks that module's `tempfile` for the file's folder, and for nothing else.
        setattr(network_utils, "tempfile", SimpleNamespace(gettempdir=lambda: folder))  # noqa: B010


async def within(seconds: float, what: str, work: Awaitable[T]) -> T:
    """Await `work`; InfraError that names it when it takes longer or the engine is dead."""
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        return await asyncio.wait_for(work, seconds)
    except TimeoutError:
        raise InfraError(f"{what} took more than {seconds:g} s") from None
    except (EngineDeadError, EngineGenerateError) as error:
        raise InfraError(
            f"{what}: vLLM's engine failed: {one_line(error.__cause__ or error)}"
        ) from error


def request_seed(seed: int, *parts: object) -> int:
    """Return a 63-bit seed for one request, so that a completion does not depend on what else is in
    the batch.
    """
    digest = hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def mean_gap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Return mean absolute difference; infinite when the lengths differ or a value is not a
    number."""
    if len(a) != len(b):
        return float("inf")
    gap = sum(abs(x - y) for x, y in zip(a, b, strict=True)) / max(len(a), 1)
    return gap if gap == gap else float("inf")


def one_line(error: BaseException) -> str:
    """Return kind and message of an error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
