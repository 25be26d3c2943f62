# SPDX-License-Identifier: Apache-2.0
"""The combinations that the comma lists of a command line ask for."""

import itertools
from typing import Any, List, Mapping, NamedTuple, Sequence

from ipu_utils.config.command_line import build_parser
from ipu_utils.config.facets import Role
from ipu_utils.config.options import flag_of
from ipu_utils.config.sections import all_rules, names_where, sweep_axes

RECORDS = names_where(lambda facets: facets.role is Role.RECORD)  # what the sweep writes for all cells


class Cell(NamedTuple):
    """One combination."""

    values: Mapping[str, str]  # of the swept axes, as typed
    arguments: List[str]  # of the script, without those of RECORDS


def cells(argv: Sequence[str], script: str = "throughput") -> List[Cell]:
    """Every combination of the comma lists on a command line; a single cell without values where there is none.

    Raises:
      SystemExit: the command line is wrong; status 2.
    """
    typed = vars(build_parser(script, lists=True).parse_args(argv))
    lists = {name: typed[name] for name in sweep_axes() if "," in typed.get(name, "")}
    rest = {name: value for name, value in typed.items() if name not in lists and name not in RECORDS}
    values = [list(dict.fromkeys(part.strip() for part in value.split(","))) for value in lists.values()]
    found = []
    for row in itertools.product(*values):
        chosen = dict(zip(lists, row))
        found.append(Cell(chosen, _words({**rest, **chosen})))
    return found


def _words(typed: Mapping[str, Any]) -> List[str]:
    """A command line that gives these options."""
    rules = all_rules()
    texts = {name: rules[name].kind.text_of(value) if name in rules else value for name, value in typed.items()}
    return [f"{flag_of(name)}={text}" for name, text in texts.items()]  # one word each, should a value begin with "-"
