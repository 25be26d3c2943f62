# SPDX-License-Identifier: Apache-2.0
"""Print a script that teaches a shell the options of both scripts and their values.

eval "$(python -m ipu_utils.completion bash)"        # or zsh
"""

from ipu_utils.base import program

if __name__ == "__main__":
    program.begin()

import re
from typing import Dict, List, Optional, Sequence

from ipu_utils.base import missing_packages

with missing_packages.told(__name__):
    from ipu_utils.base.console import run_script
    from ipu_utils.config.command_line import Parser, build_parser
    from ipu_utils.config.model_options import MODEL_NAMES
    from ipu_utils.config.options import flag_of
    from ipu_utils.config.preset_files import CONFIG_DIR
    from ipu_utils.config.sections import SCRIPTS, all_rules

SHELLS = ("bash", "zsh")
# A word that a shell takes as it is: others `compgen -W` would expand, and run what is in them.
PLAIN = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
# zsh runs bash's script through its own layer for that.
ZSH = "autoload -U +X compinit && compinit -u; autoload -U +X bashcompinit && bashcompinit\n"
BASH = r"""_efficientdet_benchmark() {
  local script= word current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} flags= values=
  for word in "${COMP_WORDS[@]:0:COMP_CWORD}"; do
    case ${word##*/} in ipu_inference.py | ipu_embedded_inference.py) script=${word##*/} ;; esac
  done
  COMPREPLY=()
  case $script in
SCRIPT_CASES
  esac
  [[ -n $script ]] || return
  case $before in
VALUE_CASES
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$current"))
  elif [[ -n $values ]]; then
    COMPREPLY=($(compgen -W "$values" -- "$current"))
  fi
}
complete -o default -F _efficientdet_benchmark python python3 SCRIPTS
"""


def flags_of(script: str) -> List[str]:
    """Every option of a script, as it is typed."""
    return sorted(flag for flag in build_parser(script)._option_string_actions if flag.startswith("--"))


def values_of() -> Dict[str, List[str]]:
    """Words that may follow an option, for those that take words."""
    presets = sorted(path.stem for path in CONFIG_DIR.glob("*.yml") if PLAIN.fullmatch(path.stem))
    found = {"--config": presets, "--model-name": list(MODEL_NAMES)}
    for name, rule in all_rules().items():
        if isinstance(rule.default, bool):
            found[flag_of(name)] = ["true", "false"]
        elif rule.kind.words is not None:
            found[flag_of(name)] = list(rule.kind.words)
    return found


def bash_script() -> str:
    """The script for bash."""
    by_script = [f"    {file}) flags='{' '.join(flags_of(name))}' ;;" for name, file in SCRIPTS.items()]
    by_flag = [f"    {flag}) values='{' '.join(words)}' ;;" for flag, words in sorted(values_of().items())]
    text = BASH.replace("SCRIPT_CASES", "\n".join(by_script)).replace("VALUE_CASES", "\n".join(by_flag))
    return text.replace("SCRIPTS", " ".join(SCRIPTS.values()))


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = Parser(prog="python -m ipu_utils.completion", description=__doc__)
    parser.add_argument("shell", choices=SHELLS, help="the shell to print a script for")
    print((ZSH if parser.parse_args(argv).shell == "zsh" else "") + bash_script(), end="")
    return 0


if __name__ == "__main__":
    program.run(lambda: run_script(main))
