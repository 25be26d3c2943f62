# SPDX-License-Identifier: Apache-2.0
"""Every option of the embedded script, which has those of the other one too, with values that none can take."""

from typing import Callable, List

from ipu_utils.config.options import flag_of, rules_of
from ipu_utils.config.sections import sections_of
from reliability.case import Case, Outcome, Stage
from reliability.runner import here

VALUES = ("", "-1", "1" + "0" * 30, "abc", "5ms")  # empty, negative, huge, no number, a number with a unit
TEXTS = ("hparams",)  # any text may be one until it is read
PATHS = ("FOLDER", "FILE", "PATH")  # any text but the empty one may be a path


def _all_refused(flag: str, values: List[str]) -> Callable[[Stage], Outcome]:
    def run(stage: Stage) -> Outcome:
        for value in values:
            outcome = here("embedded", [flag, value] if flag == "--device" else ["--device", "cpu", flag, value], {})
            assert outcome.status == 2 and flag in outcome.err and "Traceback" not in outcome.err, (value, outcome)
        return outcome

    return run


def _cases() -> List[Case]:
    cases = []
    for section in sections_of("embedded").values():
        for name, rule in rules_of(section).items():
            if name not in TEXTS:
                values = [""] if rule.kind.metavar in PATHS else list(VALUES)
                shown = ", ".join("1 and 30 zeros" if len(value) > 9 else value or "nothing" for value in values)
                flag = flag_of(name)
                cases.append(Case(f"{flag} {shown}", status=2, words=[flag, "must be"], run=_all_refused(flag, values)))
    return cases


CASES = _cases()
