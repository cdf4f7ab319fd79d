"""The wheel is enough: installed elsewhere, it finds its own configurations and data outside the
checkout."""

from __future__ import annotations

import json
import os
import re
import signal
import site
import subprocess
import sys
import sysconfig
import threading
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import CONFIGS, ROOT

pytestmark = pytest.mark.timeout(240)  # builds and installs, on a loaded machine too
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
SOURCES = ("geoagent_rl", "actors", "cluster", "configs", "pyproject.toml", "README.md")


def call(*words: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=120, cwd=cwd, env=env
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy: building leaves folders behind."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in (*SOURCES, "LICENSE", "NOTICE"):
        call("cp", "-r", ROOT / name, copy / name, cwd=copy)
    call(*PIP, "wheel", copy, "--no-deps", "--no-build-isolation", "-w", out, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel, which borrows the packages it needs from this one."""
    place = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", place, cwd=place)
    python = place / "bin" / "python"
    call(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=place)
    paths = {"base": str(place), "platbase": str(place)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=paths))
    # With their own .pth files, one of which mends torchvision (cluster/cli/media_mend.py).
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in site.getsitepackages()]
    (packages / "borrowed.pth").write_text("".join(lines))
    return place / "bin"


def outside(folder: Path) -> dict[str, str]:
    """An environment from which the checkout cannot be imported."""
    left_out = ("PYTHONPATH", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if name not in left_out}


def test_the_wheel_carries_every_configuration_and_the_mark_of_typed_packages(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "geoagent_rl/py.typed" in names
    kept = {name.split("share/geoagent-rl/configs/")[1] for name in names if "/share/" in name}
    assert kept == {str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml")}


def test_commands_work_outside_the_checkout(installed, tmp_path):
    program, env = installed / "geoagent-rl", outside(tmp_path)
    code = "import geoagent_rl; print(geoagent_rl.__file__)"
    where = call(installed / "python", "-c", code, cwd=tmp_path, env=env)
    assert Path(where.strip()).is_relative_to(installed.parent)
    plan = json.loads(call(program, "plan", "--json", cwd=tmp_path, env=env))
    here = json.loads(call(program, "plan", "--json", cwd=ROOT, env=env))
    assert plan == here
    found = json.loads(call(program, "geocode", "Munich", "--json", cwd=tmp_path, env=env))
    assert found["country_code"] == "DE"
    assert "GLOBE" in call(program, "recipes", cwd=tmp_path, env=env)
    assert not list(tmp_path.iterdir())


def test_the_demo_starts_outside_the_checkout(installed, tmp_path):
    """Its configuration, its places and its scenes are there; tests/jobs runs the rest of it."""
    few = [f"scenes.{split}=4" for split in ("sft", "train", "heldout", "hidden")]
    command = [str(installed / "geoagent-rl"), "demo", *few, "run.dir=runs/mine"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=outside(tmp_path), stderr=subprocess.PIPE, text=True
    ) as process:
        limit = threading.Timer(100, process.kill)
        limit.start()
        said = []
        for line in process.stderr:
            said.append(line)
            if re.match(r"reading .*hidden.*: \d", line):
                process.send_signal(signal.SIGINT)
                break
        process.communicate()
        limit.cancel()
    assert process.returncode == 130, said
    assert said[0] == f"run directory: {tmp_path / 'runs' / 'mine'}\n"
    assert len(list((tmp_path / "runs/mine/data").rglob("*.jpg"))) == 16


def test_a_file_of_ones_own_comes_first(installed, tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "local.yaml").write_text("data: {manifest: scenes}\nsteps: 7\n")
    code = "from geoagent_rl.config import load; print(load('configs/local.yaml').steps)"
    said = call(installed / "python", "-c", code, cwd=tmp_path, env=outside(tmp_path))
    assert said.strip() == "7"
