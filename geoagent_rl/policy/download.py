"""A checkpoint of the Hugging Face Hub into this machine's cache, before anything that has a time
limit needs it. Tens of gigabytes take longer than any actor may take to start."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from fnmatch import fnmatch
from pathlib import Path

from geoagent_rl.types import UserError

LOOK_S = 2.0
# Weights in forms that nothing here loads; .bin only where there are no safetensors.
NEVER = ("*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.pth", "*.ot", "original/*", "onnx/*")
PICKLED = ("*.bin", "*.pt")


def download(repo: str) -> Iterator[tuple[int, int]]:
    """Download a model repository; yield (bytes here, bytes in all), the last time when it is done.

    Files that are in the cache already are not asked for again; other processes that want the same
    wait for this one. Offline it is taken as it is in the cache. Raises UserError where the hub has
    no such model, does not give it, or cannot be reached while it is not here whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        return
    try:
        sizes = _files(repo)
        total = sum(sizes.values())
        with ThreadPoolExecutor(1) as thread:
            whole = thread.submit(snapshot_download, repo, allow_patterns=list(sizes))
            while not wait([whole], LOOK_S).done:
                yield min(_bytes_of(repo), total), total
            whole.result()
        yield total, total
    except Exception as error:  # noqa: BLE001 (failure taxonomy: hub, network or disk)
        raise UserError(
            f"{repo} cannot be downloaded: {' '.join(str(error).split())[:200]}; is the name right, "
            "HF_TOKEN set where the model is gated, and the hub to be reached from every node?"
        ) from None


def _files(repo: str) -> dict[str, int]:
    """Return the sizes of the files that are wanted, by name."""
    from huggingface_hub import HfApi

    found = HfApi().model_info(repo, files_metadata=True).siblings or []
    sizes = {file.rfilename: file.size or 0 for file in found}
    unwanted = NEVER + (PICKLED if any(n.endswith(".safetensors") for n in sizes) else ())
    return {n: s for n, s in sizes.items() if not any(fnmatch(n, p) for p in unwanted)}


def _bytes_of(repo: str) -> int:
    """Return what of a repository lies in the cache, half-downloaded files included."""
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    blobs = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model") / "blobs"
    return sum(file.stat().st_size for file in blobs.glob("*") if file.is_file())
