"""What every test gets: a quiet, offline environment, the order of the suites, limits, and a check
for left processes.

Everything started from here inherits MARK, so a process that outlives the tests is found even when
its parent is gone; processes that overwrite their environment with a title (Ray's workers, vLLM's
EngineCore) are noted while they run. The caches under the user's cache directory (gazetteer, tiny
policy) are keyed by content and are shared on purpose."""

import os
import secrets
import signal
import uuid
from collections import Counter
from pathlib import Path

import psutil
import pytest

MARK = "GEOAGENT_TEST_SESSION"
SESSION = uuid.uuid4().hex
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    # Ray's ports are open to everybody on the machine: no test's cluster takes a job without this
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",  # engine, learner and judge share few cores
    "TOKENIZERS_PARALLELISM": "false",
}
for name, value in ENVIRONMENT.items():
    os.environ.setdefault(name, value)
os.environ[MARK] = SESSION
# What is ignored where nohup or "&" started pytest is inherited by children that tests end so.
for number, usual in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

ORDER = (
    "unit",
    "properties",
    "pipeline",
    "oracle",
    "browser",
    "stack",
    "jobs",
)  # the quick ones first
QUICK = {"unit": 60, "properties": 120, "pipeline": 120}  # seconds for one test
HERE = Path(__file__).parent
collect_ignore = ["benchmarks"]  # scripts, run by hand
GRACE_S = 20.0  # Ray and vLLM take their processes down in the background
seen: set[psutil.Process] = (
    set()
)  # descendants noted before each teardown of a suite that starts engines
leftovers: list[str] = []
seconds: Counter[str] = Counter()  # by file, set-up and teardown included


def suite(path: Path) -> str:
    return path.relative_to(HERE).parts[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: place for place, name in enumerate(ORDER)}
    items.sort(key=lambda item: rank.get(suite(item.path), len(ORDER)))
    for item in items:
        if suite(item.path) in QUICK and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(QUICK[suite(item.path)]))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data beside the repository; skips where it is absent."""
    folder = HERE.parent.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data beside the repository")
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    if suite(item.path) not in QUICK:
        seen.update(psutil.Process().children(recursive=True))


def ours() -> list[psutil.Process]:
    """Processes started by these tests that are still running, whoever their parent is now."""
    found = {
        *seen,
        *psutil.Process().children(recursive=True),
        *filter(is_marked, psutil.process_iter()),
    }
    return [process for process in found if is_left_over(process)]


def is_marked(process: psutil.Process) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == SESSION
    except psutil.Error:  # gone, or another user's
        return False


def is_left_over(process: psutil.Process) -> bool:
    """Running, and not multiprocessing's resource tracker or fork server, which end with the
    process they serve.
    """
    try:
        command = " ".join(process.cmdline())
        running = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
    return (
        running
        and "multiprocessing.resource_tracker" not in command
        and "multiprocessing.forkserver" not in command
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    psutil.wait_procs(ours(), timeout=GRACE_S)
    for process in ours():
        try:
            leftovers.append(f"{process.pid} {' '.join(process.cmdline()).strip()[:300]}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    if leftovers:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    seconds[report.nodeid.split("::")[0]] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if len(seconds) > 1:
        terminalreporter.section(f"seconds by file, of {seconds.total():.0f}")
        for name, taken in seconds.most_common():
            if taken >= 1:
                terminalreporter.write_line(f"{taken:7.1f}  {name}")
    if leftovers:
        terminalreporter.section(
            "FAILED: processes that the tests left behind (now killed)", red=True, bold=True
        )
        for line in leftovers:
            terminalreporter.write_line(line)
