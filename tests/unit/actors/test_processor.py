"""MKL's strict mode and doctor's promise follow from what Linux says of the processor."""

import os

import pytest

from actors import processor
from actors.processor import promise, reproducible_mode, set_reproducible_products, this_processor
from cluster.cli import doctor_machine

CPU_INFO = """processor\t: 0
vendor_id\t: {vendor}
model name\t: {model}
flags\t\t: fpu sse2 {flags}
power management:

processor\t: 1
vendor_id\t: {vendor}
model name\t: {model}
flags\t\t: fpu sse2 {flags}
"""
AVX512 = "avx2 avx512f avx512dq avx512cd avx512bw avx512vl"
CASES = {
    "xeon": ("GenuineIntel", f"{AVX512} amx_bf16", "AVX512,STRICT"),
    "epyc": ("AuthenticAMD", AVX512, "AVX512,STRICT"),
    "phi": ("GenuineIntel", "avx2 avx512f avx512cd avx512er", "AVX2,STRICT"),
    "old": ("AuthenticAMD", "avx2", "AVX2,STRICT"),
    "ancient": ("GenuineIntel", "avx", None),
}


@pytest.fixture(params=CASES)
def machine(request, tmp_path, monkeypatch):
    """(its processor's vendor, the mode that MKL should get) of a machine of each kind."""
    vendor, flags, mode = CASES[request.param]
    path = tmp_path / "cpuinfo"
    path.write_text(CPU_INFO.format(vendor=vendor, model=request.param, flags=flags))
    monkeypatch.setattr(processor, "CPU_INFO", path)
    return request.param, mode


def test_the_mode_follows_from_the_flags_and_a_users_own_stays(machine, monkeypatch):
    model, mode = machine
    assert this_processor().model == model and reproducible_mode(this_processor()) == mode
    monkeypatch.delenv("MKL_CBWR", raising=False)
    set_reproducible_products()
    assert os.environ.get("MKL_CBWR") == mode
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    set_reproducible_products()
    assert os.environ["MKL_CBWR"] == "COMPATIBLE"


def test_doctor_names_the_processor_and_what_is_promised_on_it(machine, monkeypatch):
    model, mode = machine
    monkeypatch.setattr(doctor_machine.platform, "machine", lambda: "x86_64")
    found = doctor_machine.processor()
    assert found.found.startswith(f"{model}: ")
    if mode:
        assert found.status == "ok" and mode in found.found and "avx2" in found.found
        assert ("amx_bf16" in found.found) == (model == "xeon")
    else:
        assert found.status == "fail" and "AVX2" in found.advice


def test_nothing_is_promised_where_it_was_never_tried(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    path.write_text(CPU_INFO.format(vendor="SomebodyElse", model="new", flags=AVX512))
    monkeypatch.setattr(processor, "CPU_INFO", path)
    assert "never tried" in promise(this_processor())
    monkeypatch.setattr(processor, "CPU_INFO", tmp_path / "none")
    assert (
        reproducible_mode(this_processor()) is None and doctor_machine.processor().status == "note"
    )
