# SPDX-License-Identifier: Apache-2.0
"""The combinations that the comma lists of a command line ask for, and `--engine all`."""

import contextlib
import itertools
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence

from ipu_utils.base.errors import UserError
from ipu_utils.config.command_line import build_parser
from ipu_utils.config.device_options import ALL, ENGINE_WORDS
from ipu_utils.config.facets import Role
from ipu_utils.config.model_options import ModelConfig
from ipu_utils.config.options import flag_of
from ipu_utils.config.preset_files import read_preset
from ipu_utils.config.sections import all_rules, names_where, sweep_axes

RECORDS = names_where(lambda facets: facets.role is Role.RECORD)  # what the sweep writes for all cells


class Cell(NamedTuple):
    """One combination."""

    values: Mapping[str, str]  # of the swept axes, as typed
    arguments: List[str]  # of the script, without those of RECORDS
    by_all: bool = False  # its engine is one of `all`, not one that was named


def cells(argv: Sequence[str], script: str = "throughput") -> List[Cell]:
    """Every combination of the comma lists on a command line; a single cell without values where there is none.

    `all` is each engine that there is, whether or not it is installed.

    Raises:
      SystemExit: the command line is wrong; status 2.
    """
    typed = vars(build_parser(script, lists=True).parse_args(argv))
    lists = {name: list(_parts(name, typed[name]).values()) for name in sweep_axes() if "," in typed.get(name, "")}
    engines = list(_parts("engine", typed["engine"])) if "engine" in typed else []
    if "engine" in lists or ALL in engines:
        words = (word for part in engines for word in (ENGINE_WORDS if part == ALL else (part,)))
        lists["engine"] = list(dict.fromkeys(words))
    rest = {name: value for name, value in typed.items() if name not in lists and name not in RECORDS}
    found = []
    for row in itertools.product(*lists.values()):
        chosen = dict(zip(lists, row))
        more = [{}]
        if not engines and _preset_wants_all({**rest, **chosen}, script):
            more = [{"engine": word} for word in ENGINE_WORDS]
        for values in ({**chosen, **one} for one in more):
            by_all = "engine" in values and values["engine"] not in engines
            found.append(Cell(values, _words({**rest, **values}), by_all))
    return found


def _parts(name: str, text: str) -> Dict[str, str]:
    """The values of a comma list, each once: which word it is, and how it was typed first."""
    rule, found = all_rules()[name], {}
    for part in map(str.strip, text.split(",")):
        word = part
        if rule.kind.words:
            with contextlib.suppress(UserError):  # which the cell itself will tell
                word = rule.kind.text_of(rule.check(name, part))
        found.setdefault(word, part)
    return found


def _preset_wants_all(typed: Mapping[str, Any], script: str) -> bool:
    """Does a preset file ask for all engines? None of those that come along does."""
    if "config" not in typed:
        return False
    with contextlib.suppress(UserError):  # which the cell itself will tell
        model = all_rules()["model_name"].check("model_name", typed.get("model_name", ModelConfig.model_name))
        preset = read_preset(typed["config"], model)
        return {**preset.own, **preset.host}.get("engine") == ALL
    return False


def _words(typed: Mapping[str, Any]) -> List[str]:
    """A command line that gives these options."""
    rules = all_rules()
    texts = {name: rules[name].kind.text_of(value) if name in rules else value for name, value in typed.items()}
    return [f"{flag_of(name)}={text}" for name, text in texts.items()]  # one word each, should a value begin with "-"
