"""Under CI a skipped test is a failure: whatever CI can run, it runs. Commands under test can be interrupted."""

from __future__ import annotations

import importlib.util
import os
import signal
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("project", deadline=None, derandomize=True)
hypothesis.settings.load_profile("project")

# A shell lets what it starts in the background ignore Ctrl-C, and so do all their children: the commands that tests
# interrupt would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Flower is an extra of its own, and its tests start servers for minutes: `make test-flower` installs and runs them.
collect_ignore_glob = [] if importlib.util.find_spec("flwr") else ["test_fltrain_flower*.py"]

_skipped: list[str] = []


def _under_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        _skipped.append(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.skipped:
        _skipped.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped and _under_ci() and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _skipped and _under_ci():
        terminalreporter.section("skipped under CI, which fails the run")
        for nodeid in _skipped:
            terminalreporter.line(nodeid)
