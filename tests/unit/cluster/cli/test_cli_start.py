"""`geoagent-rl -h` is quick and orderly: nothing heavy is imported for it, and what a new user
needs comes first.
"""

import json
import os
import re
import subprocess
import sys
import threading
from importlib.metadata import version
from types import ModuleType

import pytest
from typer.testing import CliRunner

from cluster.cli import main, start
from cluster.cli.main import app
from geoagent_rl import terminal
from geoagent_rl.config import load
from geoagent_rl.metrics.line import duration
from geoagent_rl.plan.estimate import make_plan
from tests.support.paths import CONFIGS

HEAVY = (
    "torch",
    "ray",
    "vllm",
    "deepspeed",
    "transformers",
    "pandas",
    "scipy",
    "starlette",
    "sentence_transformers",
    "geopy",
)
SCRIPT = f"""
import json, sys
from cluster.cli import main
print(json.dumps(sorted(set({HEAVY}) & set(sys.modules))))
sys.argv = ["geoagent-rl", "-h"]
main.main()
"""


def test_help_imports_nothing_heavy_and_lists_what_to_start_with_first():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60
    )
    loaded, _, shown = done.stdout.partition("\n")
    assert json.loads(loaded) == []
    assert (
        shown.index("doctor") < shown.index("demo") < shown.index("train") < shown.index("predict")
    )


FIRST_LINES = """
import sys, types
fake = types.ModuleType("cluster.jobs.{module}")
fake.{function} = lambda *_: print(sorted(set({heavy}) & set(sys.modules))) or ("", {{}})
sys.modules[fake.__name__] = fake
from cluster.cli import main
sys.argv = ["geoagent-rl", *{words}, "run.dir=runs/mine"]
main.main()
"""


@pytest.mark.parametrize(
    ("words", "module", "function"),
    [
        (["train"], "train", "run_train_job"),
        (["sft"], "train", "run_sft_job"),
        (["demo"], "demo", "run_demo"),
        (["eval", "run", "--json"], "evaluate", "run_eval_job"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_long_command_names_its_run_directory_before_anything_heavy_is_loaded(
    words, module, function, tmp_path
):
    heavy = ("torch", "ray", "vllm", "deepspeed", "transformers", "geopy")
    words = [*words, "--config", str(CONFIGS / "local.yaml")]
    script = FIRST_LINES.format(words=words, module=module, function=function, heavy=heavy)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    lines = done.stderr.splitlines()
    assert lines[0] == f"run directory: {tmp_path / 'runs' / 'mine'}", done.stderr
    assert any("geoagent-rl monitor" in line for line in lines)
    assert "[]" in done.stdout + done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_job_that_says_nothing_is_said_to_go_on(monkeypatch, tmp_path):
    monkeypatch.setattr(terminal, "SILENT_S", 0.1)
    monkeypatch.setattr(terminal, "_unkept", terminal.deque())
    heard, job = threading.Event(), ModuleType("cluster.jobs.train")
    job.run_train_job = lambda *_: heard.wait(30)
    monkeypatch.setitem(sys.modules, job.__name__, job)

    def listen(line):
        if re.search(r" working: \d+ s so far$", line):
            heard.set()

    words = ["train", "--config", str(CONFIGS / "local.yaml"), f"run.dir={tmp_path / 'run'}"]
    with terminal.kept(listen):
        assert CliRunner().invoke(app, words).exit_code == 0
    assert heard.is_set()


def test_a_run_on_gpus_says_how_long_it_is_expected_to_take(capsys):
    config = load(CONFIGS / "paper-8x80gb.yaml", ["steps=100"])
    main.say_expected(config)
    seconds = 100 * make_plan(config)["time"]["step_seconds"]
    assert f"expected: {duration(seconds)}" in capsys.readouterr().err
    config.policy.architecture = config.policy.model = "unknown"
    main.say_expected(config)
    assert "expected" not in capsys.readouterr().err


def test_letters_that_a_terminal_lacks_stop_nothing(tmp_path):
    script = (
        "import sys; from cluster.cli.local import run_app; sys.argv[0] = 'geoagent-rl'; run_app()"
    )
    words = ["geocode", "France; \u00cele-de-France; Paris"]
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", script, *words],
        capture_output=True, timeout=50, env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\xcele-de-France" in done.stdout


def test_stopped_while_the_commands_load_it_shows_no_trace(monkeypatch):
    class Stopped:
        def find_spec(self, name, *_):
            if name == "cluster.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "cluster.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Stopped(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        start.main()
    assert ended.value.code == 130


def test_the_version_is_that_of_the_installed_package():
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0 and done.stdout.strip() == f"geoagent-rl {version('geoagent-rl')}"


def test_the_shell_completes_commands():
    words = {"COMP_WORDS": "geoagent-rl tr", "COMP_CWORD": "1"}
    asked = CliRunner(env={"_GEOAGENT_RL_COMPLETE": "complete_bash", **words})
    done = asked.invoke(app, [], prog_name="geoagent-rl")
    assert done.stdout.split() == ["train"]
