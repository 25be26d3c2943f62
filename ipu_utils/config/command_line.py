# SPDX-License-Identifier: Apache-2.0
"""The command line of both scripts, built from the configuration's fields, whose names, defaults and help it takes."""

import argparse
import contextlib
import os
import re
import shlex
import sys
from typing import Any, Callable, Dict, List, NoReturn, Optional, Sequence

from ipu_utils.base import machine
from ipu_utils.base.console import leave_reason
from ipu_utils.base.errors import ConfigError
from ipu_utils.base.hardware import list_devices
from ipu_utils.base.printable import shown
from ipu_utils.config.closeness import option_meant
from ipu_utils.config.images import is_named_as_images
from ipu_utils.config.options import FORMER_NAMES, Rule, flag_of, rules_of, whole_number
from ipu_utils.config.other_tools import Answer, option_called
from ipu_utils.config.sections import SCRIPTS, all_rules, sections_of

TITLES = {"data": "input", "nms": "post-processing", "ipu": "IPU", "embedded": "executable and requests"}
IPU_REMARK = "A CPU or GPU accepts these, and says which of them have no effect."
DEFAULT_CONFIGS = {"throughput": "efficientdet", "embedded": "efficientdet-low-latency"}
DESCRIPTIONS = {
    "throughput": "Measure the throughput and latency of an EfficientDet model on batches of images.",
    "embedded": "Compile an EfficientDet model into a file and time single requests against that file.",
}


class StoreChecked(argparse.Action):
    """Store the value as the configuration's own rule converts it."""

    def __init__(self, option_strings: List[str], dest: str, rule: Rule, **kwargs: Any):
        super().__init__(option_strings, dest, **kwargs)
        self.rule = rule

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Optional[str] = None) -> None:
        try:
            setattr(namespace, self.dest, self.rule.check(self.dest, values))
        except ConfigError as error:
            raise argparse.ArgumentError(None, str(error)) from None


class StoreBoolean(StoreChecked):
    """A flag with an optional value, e.g. `--debug`, `--debug true`, `--debug=No`.

    Without a value it stores the opposite of the option's own default, whatever a preset made of it since.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, nargs="?", **kwargs)

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Optional[str] = None) -> None:
        if values is None:
            setattr(namespace, self.dest, not self.rule.default)
            if self.rule.default:
                parser.notes.append(
                    f"{option_string} without a value switches it off, because it is on by default; "
                    f"{option_string} true leaves it on."
                )
            return
        try:
            setattr(namespace, self.dest, self.rule.kind.convert(values))
        except ValueError:
            message = f"{option_string} must be {self.rule.kind.expected}, or have no value; got {values!r}."
            raise argparse.ArgumentError(None, message + parser.about_word(values)) from None


class Tell(argparse.Action):
    """Print what a function returns, and end."""

    def __init__(self, *args: Any, told: Callable[[], str], **kwargs: Any):
        super().__init__(*args, nargs=0, **kwargs)
        self._told = told

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(self._told())
        parser.exit(0)


def count(text: str) -> int:
    """A type of argparse's arguments: a whole number of at least 1."""
    try:
        return whole_number(1).convert(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}") from None


def model_name(text: str) -> str:
    """A type of argparse's arguments: a model, in any of the spellings of --model-name."""
    try:
        return all_rules()["model_name"].check("model_name", text)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error).partition(" ")[2]) from None


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with a suggestion for a mistyped option.

    A description keeps its lines: that of a command is its module's docstring.
    """

    def __init__(self, *, formatter_class: Any = argparse.RawDescriptionHelpFormatter, stray: str = "", **kwargs: Any):
        """As argparse's; `stray` is said of a word that belongs to no option."""
        super().__init__(formatter_class=formatter_class, **kwargs)
        self.stray = stray
        self.typed_program = ""  # whose --help is named, where it hands its options to this parser
        self.notes: List[str] = []  # remarks on what was typed
        self._words: List[str] = []  # of the command line

    def print_help(self, file: Any = None) -> None:
        """As argparse's, which does not say when a disk is full."""
        print(self.format_help(), end="", file=file)

    def error(self, message: str, *more: str) -> NoReturn:
        """Print `error: <message>`, and more lines of it, on standard error and exit with status 2."""
        lines = "\n".join(shown(line) for line in (self._reworded(message), *more))
        leave_reason(lines)
        command = self.typed_program or self.prog
        command = command if command.startswith("python ") else f"python {command}"
        self.exit(2, f"error: {lines}\nFor the options: {command} --help\n")

    def _reworded(self, message: str) -> str:
        """A message of argparse's own, with what it does not say."""
        lacks = re.fullmatch(r"argument (\S+): expected (?:one|at least one) argument", message)
        if lacks is None:
            return message
        for flag, word in zip(self._words, self._words[1:]):
            is_value = word.startswith("-") and not word.startswith("--") and word not in self._option_string_actions
            if flag in lacks[1].split("/") and is_value:
                return f"{message}. A value that begins with - follows a =: {flag}={word}"
        return message

    def _hint(self, left: Sequence[str]) -> str:
        """What to say of words that were left over: an option that does not exist, or a word without one."""
        unknown = left[0].split("=", 1)[0]
        return self._meant(unknown) if unknown.startswith("-") else self.about_word(unknown)

    def about_word(self, word: str, alone: bool = True) -> str:
        """What to say of a word that belongs to no option; `alone` where it is the only one."""
        return self.stray

    def _meant(self, flag: str) -> str:
        """What to say of an option that does not exist."""
        meant = option_meant(flag, self._option_string_actions)
        return f" Did you mean {meant!r}?" if meant else ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's, but `-hint` is no `-h`; `error` gets to know the words."""
        self._words = list(sys.argv[1:] if args is None else args)
        before = ["", *self._words]
        joined = {
            word for word, flag in zip(self._words, before)
            if re.match(r"-h.", word) and flag not in self._option_string_actions
        }  # fmt: skip
        parsed, left = super().parse_known_args([word for word in self._words if word not in joined], namespace)
        return parsed, [word for word in self._words if word in joined or word in left] if joined else left

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse, and end in `error` where something is left over."""
        parsed, left = self.parse_known_args(args, namespace)
        if left:
            self.error(f"unrecognized arguments: {' '.join(left)}.{self._hint(left)}")
        return parsed


class ScriptParser(Parser):
    """The parser of one of the two scripts, which knows the other's options."""

    def _hint(self, left: Sequence[str]) -> str:
        found = {}  # by what was typed, in its order: what is said of it
        for word, behind in zip(left, [*left[1:], "-"]):
            if word.startswith("-") or "=" in word:
                found.setdefault(word.partition("=")[0], self._of(word, None if behind.startswith("-") else behind))
        flags = [flag for flag in found if flag.startswith("-")]
        if len(flags) == 1 and left[0].startswith("-"):  # The message names it already.
            found = {
                flag: re.sub(r"^ \S+ is an option of ", " It is an option of ", said) for flag, said in found.items()
            }
        elif len(flags) > 1:
            found = {flag: said.replace(" Did", f" For {flag}: did", 1) for flag, said in found.items()}
        if left[0].startswith("-"):
            return "".join(dict.fromkeys(found.values()))
        return self.about_word(left[0], len(left) == 1) or "".join(found.values())

    def _of(self, word: str, following: Optional[str]) -> str:
        """What to say of one option that this script does not have, or of a setting without dashes."""
        flag = word.partition("=")[0]
        others = [flag_of(name) for name in all_rules() if flag_of(name) not in self._option_string_actions]
        if flag in others:
            return f" {flag} is an option of {self._other}."
        answer = option_called(word, following)
        if answer is not None:
            return self._say(answer)
        if not flag.startswith("-"):
            return ""
        elsewhere = option_meant(flag, others)
        return self._meant(flag) or (f" Did you mean {elsewhere!r} of {self._other}?" if elsewhere else "")

    def about_word(self, word: str, alone: bool = True) -> str:
        asked = "--image-path" not in self._words
        if os.path.exists(word) or (asked and "=" not in word and is_named_as_images(word)):
            if asked and alone:
                return f" Did you mean --image-path {shlex.quote(word)}? For several images name their folder."
            # what a shell makes of photos/*.jpg
            return " For several images name their folder, or quote a pattern: --image-path 'FOLDER/*.jpg'."
        name, is_joined, value = word.partition("=")
        flag = flag_of(name)
        if is_joined:
            return f" Did you mean {flag} {value}?" if flag in self._option_string_actions else ""
        if name.isdigit() and self._before(word, 2) == "--image-size":
            return f" Did you mean --image-size {self._before(word, 1)}x{name}?"
        with contextlib.suppress(ConfigError):
            named = [all_rules()["model_name"].check("model_name", one) for one in name.split(",")]
            return f" Did you mean --model-name {','.join(named)}?"
        return ""

    def _before(self, word: str, steps: int) -> str:
        """What was typed so many words before a word."""
        at = self._words.index(word) - steps if word in self._words else -1
        return self._words[at] if at >= 0 else ""

    @property
    def _other(self) -> str:
        return next(script for script in SCRIPTS.values() if script != self.prog)

    def _say(self, answer: Answer) -> str:
        if answer.text:
            return f" {answer.text}"
        ours = answer.filled
        flag, _, value = ours.partition(" ")
        name = flag[2:].replace("-", "_")
        if answer.filled != answer.ours and name in all_rules():
            try:
                all_rules()[name].check(name, value)
            except ConfigError:
                ours = answer.ours
        where = "here" if flag in self._option_string_actions else f"of {self._other}"
        return f" {answer.name} is {ours} {where}."


def build_parser(script: str = "throughput", lists: bool = False) -> Parser:
    """The parser of "throughput" (ipu_inference.py) or "embedded" (ipu_embedded_inference.py).

    The parsed namespace holds what was typed and nothing else, so that presets and defaults can come below it. With
    `lists`, what options that take comma lists have is left as it was typed.
    """
    sections = sections_of(script)
    parser = ScriptParser(
        prog=SCRIPTS[script],
        formatter_class=argparse.HelpFormatter,
        usage="%(prog)s [--model-name NAME] [--image-path PATH] [option ...]",
        description=DESCRIPTIONS[script] + " A boolean option takes true or false, or no value: then it becomes the "
        "opposite of its default. The command line wins over the preset, the preset over the default.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        help="preset, a file of ipu_configs/ or any YAML file; efficientdet is made for throughput, "
        f"efficientdet-low-latency for single requests (default: {DEFAULT_CONFIGS[script]})",
    )
    parser.add_argument(
        "--version", action=Tell, told=machine.describe_version, help="print version, commit and engines, and exit"
    )
    rules = [(name, rule) for fields in sections.values() for name, rule in rules_of(fields).items() if rule.first]
    first = parser.add_argument_group("what most runs need")
    for name, rule in sorted(rules, key=lambda item: item[1].first):
        _add_option(first, name, rule, lists)
    groups: Dict[str, Any] = {}
    for section, fields in sections.items():
        for name, rule in rules_of(fields).items():
            if rule.first:
                continue
            title = "IPU optimisation" if name.startswith("opt_") else TITLES.get(section, section)
            if title not in groups:
                groups[title] = parser.add_argument_group(title, IPU_REMARK if section == "ipu" else None)
            _add_option(groups[title], name, rule, lists)
        if section == "device":
            groups["device"].add_argument(
                "--list-devices", action=Tell, told=list_devices, help="print the devices of this machine and exit"
            )
    return parser


def _add_option(group: Any, name: str, rule: Rule, lists: bool) -> None:
    flags = [flag_of(name), *(flag_of(former) for former, now in FORMER_NAMES.items() if now == name)]
    described = f"{rule.help} (default: {rule.default_text})".replace("%", "%%")
    how: Dict[str, Any] = {"action": StoreBoolean if isinstance(rule.default, bool) else StoreChecked, "rule": rule}
    if lists and rule.facets.sweep.kind == "axis":
        how = {}
    group.add_argument(*flags, metavar=rule.kind.metavar, help=described, **how)
