# SPDX-License-Identifier: Apache-2.0
"""Did two runs do the same work? Answered from their records. docs/RESULTS.md says what counts."""

from typing import Any, List, Mapping, Sequence

from ipu_utils.base.printable import shown
from ipu_utils.config.options import shortened
from ipu_utils.config.sections import all_rules
from ipu_utils.report.record import lookup

# What makes two runs different work beside their options: what follows from those, and what they have read.
COMPARED = (
    *(f"nms.{key}" for key in ("method", "iou_threshold", "score_threshold", "sigma", "max_detections", "on_device")),
    "model.calibration.sha256", "measured", "weights.random", "weights.sha256", "device.kind",
)  # fmt: skip
LATER = ("model.hparams_sha256",)  # what records of earlier releases do not have
IMAGES_BY_NAME = ("configuration.image_path", "configuration.seed")
# Not work, but worth telling.
TOLD = (
    "nms.implementation", "device.name", "device.engine", "device.threads", "machine.cpu", "machine.usable_cores",
    "versions", "git.commit",
)  # fmt: skip


def differences(first: Mapping[str, Any], second: Mapping[str, Any], paths: Sequence[str]) -> List[str]:
    """One line for each key below `paths` that differs."""
    found = []
    for path in paths:
        one, two = lookup(first, path), lookup(second, path)
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            found += differences(first, second, [f"{path}.{key}" for key in sorted({*one, *two})])
        elif one != two:
            found.append(_line(path, one, two))
    return found


def _line(path: str, one: Any, two: Any) -> str:
    texts = (shortened("none" if value is None else shown(value)) for value in (one, two))
    return f"{shown(path)}: {' / '.join(texts)}"


def work_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> List[str]:
    """Say in what the two runs did not do the same work; nothing when they did."""
    found = _option_differences(first, second)
    known = [path for path in LATER if lookup(first, path) and lookup(second, path)]
    model = (f"model.{key}" for key in sorted({*first["model"], *second["model"]}))
    compared = [*COMPARED, *(path for path in model if path not in (*LATER, "model.calibration")), *known]
    by_content = lookup(first, "images.sha256") and lookup(second, "images.sha256")
    found += differences(first, second, [*compared, *(("images.sha256",) if by_content else IMAGES_BY_NAME)])
    instances = [len(record["samples"]["instances"]) for record in (first, second)]
    return found + ([f"instances: {instances[0]} / {instances[1]}"] if instances[0] != instances[1] else [])


def _option_differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> List[str]:
    kinds, rules = [lookup(record, "device.kind") for record in (first, second)], all_rules()
    found = []
    # An option that only one of them knows came with a release in between, whose default is what was done before.
    for name in sorted({*first["configuration"]} & {*second["configuration"]} - {"config"}):
        rule, path = rules.get(name), f"configuration.{name}"
        if rule is not None and not rule.facets.counts(*kinds):
            continue
        one, two = lookup(first, path), lookup(second, path)
        # Of a folder it counts that one is given, not which.
        if one != two and not (rule is not None and rule.kind.is_path and None not in (one, two)):
            found.append(_line(path, one, two))
    return found
