"""The media mend acts only where an installed package cannot be loaded, and undoes itself when it
is not needed.
"""

import importlib.metadata
import subprocess
import sys
from types import SimpleNamespace

import pytest

from cluster.cli import media_mend

MISSING = "RuntimeError: operator torchvision::nms does not exist"


@pytest.fixture
def answers(monkeypatch):
    """What `import torchvision` says, attempt by attempt."""

    def say(*errors):
        left = list(errors)
        monkeypatch.setattr(media_mend, "import_error", lambda module: left.pop(0))

    return say


def test_a_working_torchvision_is_left_alone(tmp_path, answers):
    answers("")
    assert media_mend.mend_torchvision(tmp_path) == "torchvision: imports"
    assert list(tmp_path.iterdir()) == []


def test_a_cuda_torchvision_gets_the_hook_once(tmp_path, answers):
    answers(MISSING, "")
    assert "declared its missing operators" in media_mend.mend_torchvision(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{media_mend.NAME}.py", f"{media_mend.NAME}.pth"}
    answers("")
    assert media_mend.mend_torchvision(tmp_path) == "torchvision: imports (mended earlier)"


def test_a_hook_that_is_in_the_way_is_removed(tmp_path, answers):
    answers(MISSING, "")
    media_mend.mend_torchvision(tmp_path)
    answers("RuntimeError: only a single TORCH_LIBRARY can be used", "")
    assert "removed" in media_mend.mend_torchvision(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_fault_is_said_and_not_mended(tmp_path, answers):
    answers("ImportError: libpng is missing")
    with pytest.raises(RuntimeError, match="libpng"):
        media_mend.mend_torchvision(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_hook_itself_acts_at_the_first_import_only(tmp_path):
    (tmp_path / "torchvision.py").write_text("import sys; print(sys.modules['hook'].lib.made)")
    (tmp_path / "torch.py").write_text(
        "class version: cuda = None\n"
        "class library:\n"
        "    class Library:\n"
        "        def __init__(self, *args): self.made = [args]\n"
        "        def define(self, schema): self.made.append(schema.split('(')[0])\n"
    )
    (tmp_path / "hook.py").write_text(media_mend.HOOK)
    code = "import hook, sys; assert 'torch' not in sys.modules; import torchvision; print(len(sys.meta_path))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=30
    )
    assert "[('torchvision', 'DEF'), 'nms', 'qnms']" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("error", "uninstalled"), [("OSError: libc10_cuda.so: cannot open", True), ("", False)]
)
def test_only_unloadable_packages_are_uninstalled(monkeypatch, error, uninstalled):
    ran = []
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.11.0")
    monkeypatch.setattr(media_mend, "import_error", lambda module: error)
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **more: ran.append(command) or SimpleNamespace(returncode=0),
    )
    said = media_mend.drop_unloadable("torchaudio")
    assert bool(ran) == uninstalled and ("uninstalled" in said) == uninstalled


def test_a_package_that_is_not_there_is_fine():
    assert (
        media_mend.drop_unloadable("no-such-package")
        == "no-such-package: not installed, not needed"
    )
