"""Makes the media packages of this environment importable beside a CPU-only torch, or takes them
out.

vLLM's CPU build pulls torchvision, torchaudio and torchcodec; where the registry holds no CPU build
of them the CUDA builds come, and die at import. Two mends, each only where a fresh process shows
that it is needed:
- torchvision ("operator torchvision::nms does not exist") is needed by transformers' image
  processors, though none of its compiled operators is. Declaring the two missing operator schemas
  before torchvision is imported is enough. vLLM inspects models in fresh Python processes, so this
  is written into site-packages as a `.pth`-loaded import hook.
- torchaudio and torchcodec (no libc10_cuda.so, no FFmpeg) are needed by nothing here, but break
  transformers' lazy imports by being there: they are uninstalled.

May know: the running interpreter's site-packages. `make setup` runs it as `python -m
cluster.cli.media_mend`."""

import importlib.metadata
import subprocess
import sys
import sysconfig
from pathlib import Path

NAME = "_geoagent_torchvision_mend"

HOOK = '''"""Written by `make setup` of geoagent-rl: declares torchvision operators that a CPU-only torch lacks."""
import sys


class _Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch
            if torch.version.cuda is None:
                lib = torch.library.Library("torchvision", "DEF")
                lib.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                lib.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                sys.modules[__name__].lib = lib
        return None


sys.meta_path.insert(0, _Finder())
'''


def import_error(module: str, timeout_s: float = 300) -> str:
    """Return the last line that `import module` prints in a fresh process; empty when it works."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    return (
        ""
        if done.returncode == 0
        else (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    )


def mend_torchvision(site: Path) -> str:
    """Write or remove the import hook in `site` as needed; one line that says what was found and
    done.

    Raises RuntimeError when torchvision cannot be imported for another reason, or still not
    afterwards."""
    hook, pth = site / f"{NAME}.py", site / f"{NAME}.pth"
    error = import_error("torchvision")
    if not error:
        return "torchvision: imports" + (" (mended earlier)" if pth.exists() else "")
    if (
        pth.exists()
    ):  # written for another build of torch or torchvision: start from the bare packages
        pth.unlink()
        hook.unlink(missing_ok=True)
        error = import_error("torchvision")
        if not error:
            return "torchvision: imports again without the earlier mend, which is removed"
    if "torchvision::nms" not in error:
        raise RuntimeError(
            f"torchvision cannot be imported and the cause is not the known one: {error}"
        )
    hook.write_text(HOOK)
    pth.write_text(f"import {NAME}\n")
    still = import_error("torchvision")
    if still:
        raise RuntimeError(f"torchvision still cannot be imported after the mend: {still}")
    return "torchvision: a CUDA build beside a CPU torch; declared its missing operators (none of them is used)"


def drop_unloadable(package: str) -> str:
    """Uninstall `package` where it is installed and cannot be imported; one line that says what was
    found and done.

    Raises RuntimeError when pip cannot uninstall it.
    """
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return f"{package}: not installed, not needed"
    error = import_error(package)
    if not error:
        return f"{package}: imports"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "uninstall", "--yes", "--quiet", package],
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        raise RuntimeError(
            f"{package} cannot be imported ({error}) nor uninstalled: {done.stderr.strip()}"
        )
    return f"{package}: {version} cannot be loaded here and nothing needs it; uninstalled ({error})"


def main() -> None:
    """Mend the media packages of this environment, saying what was done."""
    for package in ("torchaudio", "torchcodec"):
        print(drop_unloadable(package), flush=True)
    print(mend_torchvision(Path(sysconfig.get_paths()["purelib"])), flush=True)


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as problem:
        sys.exit(str(problem))
