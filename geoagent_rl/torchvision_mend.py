"""Lets a CUDA-built torchvision be imported beside a CPU-only torch.

The registry may hold no CPU build of torchvision; the CUDA build then dies at import ("operator torchvision::nms
does not exist") although nothing used here needs its compiled operators. Declaring the two missing operator schemas
before torchvision is imported is enough. vLLM inspects models in fresh Python processes, so the mend is written into
the environment's site-packages as a `.pth`-loaded import hook; it acts only when torchvision is really imported.

May know: the running interpreter's site-packages. Run as `python -m geoagent_rl.torchvision_mend` by `make setup`.
"""

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


def import_error() -> str:
    """The last line that `import torchvision` prints in a fresh process; empty when it works."""
    done = subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True, timeout=300)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["exit code %d" % done.returncode])[-1]


def mend() -> str:
    """Mends this environment if it needs it; returns one line that says what was found and done.

    Raises RuntimeError when torchvision still cannot be imported afterwards.
    """
    error = import_error()
    if not error:
        return "torchvision: imports as it is, nothing to mend"
    if "torchvision::nms" not in error:
        raise RuntimeError(f"torchvision cannot be imported and the cause is not the known one: {error}")
    site = Path(sysconfig.get_paths()["purelib"])
    (site / f"{NAME}.py").write_text(HOOK)
    (site / f"{NAME}.pth").write_text(f"import {NAME}\n")
    still = import_error()
    if still:
        raise RuntimeError(f"torchvision still cannot be imported after the mend: {still}")
    return "torchvision: a CUDA build beside a CPU torch; declared its missing operators (no compiled operator is used)"


if __name__ == "__main__":
    try:
        print(mend())
    except RuntimeError as problem:
        sys.exit(str(problem))
