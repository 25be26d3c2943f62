# SPDX-License-Identifier: Apache-2.0
"""What the environment already says to Poplar, and how the configuration joins it. Nothing here writes to it."""

import json
import os
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from ipu_utils.base.errors import ConfigError
from ipu_utils.config.options import shortened

ENGINE_VARIABLE = "POPLAR_ENGINE_OPTIONS"
FLAGS_VARIABLE = "TF_POPLAR_FLAGS"
PROFILE_KEY = "autoReport.directory"
EXCHANGE_KEY = "opt.internalExchangeOptimisationTarget"
EXCHANGE_TARGETS = ("memory", "balanced", "cycles")


class EngineOptions(NamedTuple):
    """Merged Poplar engine options."""

    options: Dict[str, str]
    warnings: Tuple[str, ...]

    @property
    def json(self) -> str:
        """The value for POPLAR_ENGINE_OPTIONS."""
        return json.dumps(self.options)


def read_engine_options(environ: Mapping[str, str]) -> Dict[str, str]:
    """Poplar engine options of the environment; empty where the variable is unset or blank.

    Raises:
      ConfigError: the variable does not hold a JSON object of scalars.
    """
    value = environ.get(ENGINE_VARIABLE, "").strip()
    if not value:
        return {}
    try:
        options = json.loads(value)
    except ValueError as error:
        raise ConfigError(f"{ENGINE_VARIABLE} is not JSON ({error}): {shortened(value)!r}. {_EXAMPLE}") from None
    if not isinstance(options, dict):
        raise ConfigError(f"{ENGINE_VARIABLE} must be a JSON object, got {shortened(value)!r}. {_EXAMPLE}")
    for key, option in options.items():
        if isinstance(option, (dict, list)) or option is None:
            raise ConfigError(f"{ENGINE_VARIABLE}: {key!r} must be a string, got {json.dumps(option)}. {_EXAMPLE}")
    # Poplar takes strings alone; `true` and `4` are what people write.
    return {key: option if isinstance(option, str) else json.dumps(option) for key, option in options.items()}


_EXAMPLE = """Expected something like '{"autoReport.all": "true"}'."""


def merge_engine_options(
    environ: Mapping[str, str], options: Mapping[str, str], defaults: Optional[Mapping[str, str]] = None
) -> EngineOptions:
    """Poplar engine options of the environment, with the configuration's over and the application's own below them.

    Args:
      environ: `os.environ` or the like; it is read only.
      options: engine options that the configuration asks for. They win over the environment, with a warning.
      defaults: engine options that merely suit the application. The environment wins over them.

    Raises:
      ConfigError: the environment's value is not a JSON object, or it names another profile directory than `options`.
      TypeError: a value is not a string, which is all that Poplar takes.
    """
    found, defaults = read_engine_options(environ), defaults or {}
    for key, value in [*options.items(), *defaults.items()]:
        if not isinstance(value, str):
            raise TypeError(f"engine option {key!r} must be a string, got {value!r}")
    clashes = [key for key, value in options.items() if not _same(key, found.get(key, value), value)]
    if PROFILE_KEY in clashes:
        raise ConfigError(_two_profile_dirs(found[PROFILE_KEY], options[PROFILE_KEY]))
    warnings = [
        f"{ENGINE_VARIABLE} sets {key} to {found[key]!r}, the command line to {options[key]!r}: the command line wins."
        for key in clashes
    ]
    return EngineOptions({**defaults, **found, **options}, tuple(warnings))


def _same(key: str, found: str, wanted: str) -> bool:
    if key == PROFILE_KEY:  # `options_from_environment` read it as a path, so its spelling may differ.
        return os.path.normpath(os.path.expanduser(found)) == os.path.normpath(os.path.expanduser(wanted))
    return found == wanted


def _two_profile_dirs(found: str, typed: Any) -> str:
    return (
        f"the profile directory is set twice: {found!r} in {ENGINE_VARIABLE} and {str(typed)!r} by --profile-dir. "
        "Keep one of them."
    )


def merge_poplar_flags(environ_value: Optional[str], flags: Sequence[str]) -> str:
    """The value for TF_POPLAR_FLAGS: the environment's flags, then ours, which replace those of the same name.

    Args:
      environ_value: the variable's present value, None where it is unset.
      flags: such as `--use_synthetic_data` or `--executable_cache_path=DIR`.

    Raises:
      ConfigError: the variable names a file of flags and there are flags to add, or a flag would not survive the
        driver's splitting at spaces.
    """
    value = (environ_value or "").strip()
    if not flags:
        return value
    if value and not value.startswith("-"):
        # The driver takes a value without a leading dash for the name of a file of flags.
        raise ConfigError(
            f"{FLAGS_VARIABLE} names a file ({value!r}), to which {' '.join(flags)} cannot be added: "
            "write the file's flags into the variable, or ours into the file."
        )
    for flag in flags:
        if not flag.startswith("--") or len(flag.split()) != 1:
            raise ConfigError(
                f"{flag!r} cannot be passed in {FLAGS_VARIABLE}: a flag starts with -- and has no spaces."
            )
    ours = {_flag_name(flag) for flag in flags}
    return " ".join([flag for flag in value.split() if _flag_name(flag) not in ours] + list(flags))


def _flag_name(flag: str) -> str:
    return flag.lstrip("-").split("=", 1)[0]


def poplar_flags_of(environ: Mapping[str, str]) -> Dict[str, str]:
    """Flags of TF_POPLAR_FLAGS by name; a flag without a value is "true". Empty where the variable names a file."""
    value = environ.get(FLAGS_VARIABLE, "").strip()
    if not value.startswith("-"):
        return {}
    parts = (flag.lstrip("-").partition("=") for flag in value.split())
    return {name: argument if equals else "true" for name, equals, argument in parts}


def options_from_environment(environ: Mapping[str, str], typed: Mapping[str, Any], notes: List[str]) -> Dict[str, Any]:
    """Options of the command line that Poplar's variables already decide, for an IPU run.

    Args:
      environ: `os.environ` or the like.
      typed: options of the command line. They win over these.
      notes: takes a remark where one of them does; of engine options, `merge_engine_options` warns.

    Raises:
      ConfigError: a variable cannot be read, or a profile directory is set here and on the command line.
    """
    engine, flags = read_engine_options(environ), poplar_flags_of(environ)
    options: Dict[str, Any] = {}
    if engine.get("autoReport.all") == "true" and PROFILE_KEY in engine:
        options["profile_dir"] = engine[PROFILE_KEY]
    if PROFILE_KEY in engine and typed.get("profile_dir") is not None:
        raise ConfigError(_two_profile_dirs(engine[PROFILE_KEY], typed["profile_dir"]))
    if "debug.instrument" in engine:
        options["skip_execution_report"] = engine["debug.instrument"] != "true"
    if engine.get(EXCHANGE_KEY) in EXCHANGE_TARGETS:
        options["opt_internal_exchange_target"] = engine[EXCHANGE_KEY]
    if flags.get("use_synthetic_data", "false") != "false":
        if typed.get("synthetic") is False:
            raise ConfigError(f"--synthetic false, but {FLAGS_VARIABLE} has --use_synthetic_data: remove one of them.")
        options["synthetic"] = True
    if flags.get("executable_cache_path"):
        options["executable_cache_dir"] = flags["executable_cache_path"]
        typed_dir = typed.get("executable_cache_dir")
        if typed_dir is not None and str(typed_dir) != flags["executable_cache_path"]:
            notes.append(
                f"{FLAGS_VARIABLE} keeps executables in {flags['executable_cache_path']!r}, the command line in "
                f"{str(typed_dir)!r}: the command line wins."
            )
    return options
