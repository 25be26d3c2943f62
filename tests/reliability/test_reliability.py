# SPDX-License-Identifier: Apache-2.0
"""Everything in tests/reliability: a clear message, the documented status, no traceback.

With RELIABILITY_TABLE set to a path, a run writes what it played into the table there (`make reliability`).
"""

import os
from pathlib import Path

import pytest

from reliability import (
    annotations,
    arguments,
    disk,
    environment,
    faults,
    files,
    images,
    options,
    outputs,
    packages,
    processes,
    table,
)
from reliability.case import Outcome, Stage
from reliability.runner import play
from reliability.stage import executable_folder, missing, values_of

SUBJECTS = {
    module.__name__.rpartition(".")[2]: module.CASES
    for module in (
        arguments,
        options,
        images,
        annotations,
        files,
        packages,
        disk,
        outputs,
        environment,
        faults,
        processes,
    )
}
CASES = [(subject, case) for subject, cases in SUBJECTS.items() for case in cases]


def _parameters():
    for subject, case in CASES:
        marks = [pytest.mark.slow] if case.slow else []
        yield pytest.param(subject, case, id=f"{subject}-{case.name}", marks=marks)


@pytest.fixture(scope="session")
def executable(tmp_path_factory):
    """Compile one small executable, when a case asks for it."""
    return executable_folder(tmp_path_factory.mktemp("executable"))


@pytest.fixture(scope="session")
def played():
    """What came out, by case; written as a table at the end."""
    outcomes = {}
    yield outcomes
    path = os.environ.get("RELIABILITY_TABLE")
    if path:
        table.write(Path(path), SUBJECTS, outcomes)


@pytest.mark.parametrize("subject, case", _parameters())
def test_what_goes_wrong_is_told_as_documented(subject, case, tmp_path, request, played):
    reason = missing(case)
    if reason is not None:
        pytest.skip(reason)
    folder = request.getfixturevalue("executable") if "executable" in case.needs else None
    stage = Stage(case, tmp_path, values_of(tmp_path, folder))
    outcome = play(stage)
    problems = outcome.problems(case)
    assert not problems, "\n".join(problems)
    case.check(stage)
    played[case] = table.Row(outcome.status, table.tidy(outcome.message, stage))


def test_no_two_cases_have_one_name():
    names = [(subject, case.name) for subject, case in CASES]
    assert len(set(names)) == len(names) >= 80


def test_what_tensorflow_says_of_its_start_is_not_the_message():
    noise = "E0000 00:00:17.5 99 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: no GPU\n"
    start = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    told = "WARNING ipu_utils.x: slower"
    assert Outcome(0, "", f"{start}{noise}{told}\n{noise}").message == told
    assert Outcome(2, "", f"{noise}error: no\n{noise}more").message == "error: no\nmore"
