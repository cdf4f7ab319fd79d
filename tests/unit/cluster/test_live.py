"""Finding a run that is going on: by its note, its directory or its id; mistakes are one line."""

import json
import stat

import pytest

from cluster import running as live
from geoagent_rl.run.directory import run_id_of
from geoagent_rl.types import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOAGENT_CACHE", str(tmp_path / "cache"))


def test_a_note_can_be_read_by_its_user_only_and_is_gone_with_the_run(tmp_path):
    with live.noted("abcd", tmp_path, "10.0.0.1:6379"):
        (file,) = (tmp_path / "cache" / "sessions").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert [note["address"] for note in live.notes()] == ["10.0.0.1:6379"]
    assert not live.notes() and not file.exists()


def test_what_a_killed_run_left_is_no_live_run(tmp_path):
    folder = tmp_path / "cache" / "sessions"
    folder.mkdir(parents=True)
    (folder / "dead.json").write_text(json.dumps({"run_id": "dead", "pid": 2**22 + 1}))
    (folder / "torn.json").write_text('{"run_id"')
    assert live.notes() == [] and not (folder / "dead.json").exists()


def test_a_note_of_another_machine_or_of_an_earlier_process_with_that_number(tmp_path):
    with live.noted("abcd", tmp_path, "10.0.0.1:6379"):
        (file,) = (tmp_path / "cache" / "sessions").iterdir()
        note = json.loads(file.read_text())
        elsewhere = file.with_name("elsewhere.json")
        elsewhere.write_text(json.dumps(note | {"host": "another", "pid": 2**22 + 1}))
        reused = file.with_name("reused.json")
        reused.write_text(json.dumps(note | {"started": note["started"] - 1000}))
        assert live.notes() == [note]
        assert elsewhere.exists() and not reused.exists()


def test_a_run_is_named_by_directory_id_or_not_at_all(tmp_path):
    mine = run_id_of((tmp_path / "mine").resolve())
    runs = {mine: str(tmp_path / "mine"), "ffff": "elsewhere"}
    assert (
        live.the_one(runs, str(tmp_path / "mine"), "here")
        == mine
        == live.the_one(runs, mine, "here")
    )
    assert live.the_one({"ffff": ""}, "", "here") == "ffff"
    with pytest.raises(
        UserError, match="several runs are going on here; name one with --run: .*elsewhere"
    ):
        live.the_one(runs, "", "here")
    with pytest.raises(UserError, match="no such run is going on here; going on: none"):
        live.the_one({}, "x", "here")


@pytest.mark.parametrize(
    "word", ["geocoder", "geocoder=0", "geocoder=-1", "encoder=2", "judge=1.5", "=2"]
)
def test_only_whole_numbers_of_known_services_are_accepted(word):
    assert live.wanted_replicas(["geocoder=8", "judge=2"]) == {"geocoder": 8, "judge": 2}
    with pytest.raises(UserError, match="geocoder=N, judge=N"):
        live.wanted_replicas(["judge=1", word])
