# SPDX-License-Identifier: Apache-2.0
"""Presets: YAML files with a section a model, whose keys are the options' names."""

from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple

from ipu_utils.base.errors import ConfigError
from ipu_utils.base.safe_yaml import load_yaml
from ipu_utils.config.closeness import did_you_mean, option_meant
from ipu_utils.config.model_options import MODEL_NAMES
from ipu_utils.config.options import ADDRESS, FORMER_NAMES, Rule, path_kind
from ipu_utils.config.sections import all_rules

CONFIG_DIR = Path(__file__).resolve().parents[2] / "ipu_configs"
HOST_KEY = "host"  # sub-mapping whose keys win on a CPU or GPU
BASE_SECTION = "efficientdet-base"  # for models without a section of their own
BASE_SUFFIX = "-base"  # ends the names of sections that are only there to be merged into others


class Section(NamedTuple):
    """One model's options: name -> checked value."""

    own: Dict[str, Any]  # for every device
    host: Dict[str, Any]  # over them, for a host


def preset_path(config: str) -> Path:
    """File of a preset: a name of ipu_configs/, or the path of a YAML file.

    Raises:
      ConfigError: there is no such preset.
    """
    names = sorted(path.stem for path in CONFIG_DIR.glob("*.yml"))
    if config in names:
        return CONFIG_DIR / f"{config}.yml"
    given = Path(config)
    if ADDRESS.match(config):
        raise ConfigError(f"--config {config} is an address, and only files of this machine are read.")
    kind = path_kind("--config", given) if config else ""
    if given.suffix in (".yml", ".yaml"):
        if kind == "file":
            return given
        raise ConfigError(
            f"--config {config} is a folder: name a file." if kind else f"--config {config}: there is no such file."
        )
    found = f"{config!r} is a {kind}." if kind else f"got {config!r}.{did_you_mean(config, names)}"
    raise ConfigError(f"--config must be one of {', '.join(names)}, or a YAML file (.yml, .yaml); {found}")


def is_own(config: str) -> bool:
    """Is it one of the presets that come along, not somebody's own file?

    Raises:
      ConfigError: there is no such preset.
    """
    return preset_path(config).resolve().parent == CONFIG_DIR


def read_preset(config: str, model_name: str) -> Section:
    """Options that a preset gives a model: its own section, else the file's base section, else none.

    Raises:
      ConfigError: no such preset, or anything in it is not what it should be; the whole file is checked.
    """
    path = preset_path(config)
    sections = load_yaml(path)
    if not isinstance(sections, dict):
        raise ConfigError(f"{path} must be a mapping from model names to options, found {_kind_of(sections)}.")
    read = {name: _read_section(path, name, section) for name, section in sections.items()}
    return read.get(model_name, read.get(BASE_SECTION, Section({}, {})))


def _kind_of(value: Any) -> str:
    return {dict: "a mapping", list: "a list", type(None): "nothing"}.get(type(value), repr(value))


def _section_hint(name: Any) -> str:
    rules, example = all_rules(), f" Options stand below a model, as in {MODEL_NAMES[0]}: {{micro_batch_size: 4}}."
    rule = rules.get(str(name).replace("-", "_"))
    if rule is not None:
        return example if rule.facets.in_presets else " It is an option of the command line alone."
    try:
        return f" Did you mean {rules['model_name'].check('model_name', name)!r}?"
    except ConfigError:
        return did_you_mean(name, MODEL_NAMES) or example


def _read_section(path: Path, name: Any, section: Any) -> Section:
    if name not in MODEL_NAMES and not str(name).endswith(BASE_SUFFIX):
        raise ConfigError(f"{path}: {name!r} is not a model.{_section_hint(name)}")
    where = f"{path}, {name}"
    options = _mapping(where, section)
    host = _mapping(f"{where}, {HOST_KEY}", options.get(HOST_KEY))
    own = {key: value for key, value in options.items() if key != HOST_KEY}
    return Section(_check_keys(where, own), _check_keys(f"{where}, {HOST_KEY}", host))


def _mapping(where: str, value: Any) -> Dict[Any, Any]:
    if not isinstance(value, (dict, type(None))):
        raise ConfigError(f"{where}: must be a mapping from options to values, found {_kind_of(value)}.")
    return value or {}


def _check_keys(where: str, section: Mapping[Any, Any]) -> Dict[str, Any]:
    known: Dict[str, Rule] = all_rules()
    rules = {name: rule for name, rule in known.items() if rule.facets.in_presets}
    checked = {}
    for key, value in section.items():
        name = str(key).replace("-", "_")
        name = FORMER_NAMES.get(name, name)
        if name in known and name not in rules:
            raise ConfigError(f"{where}: {key!r} can only be given on the command line.")
        if name not in rules:
            meant = option_meant(name, rules)
            hint = f" Did you mean {meant!r}?" if meant else ""
            raise ConfigError(f"{where}: {key!r} is not an option.{hint}")
        if isinstance(value, (dict, list)) or value is None:
            raise ConfigError(f"{where}: {key!r} needs one value, found {_kind_of(value)}.")
        try:
            checked[name] = rules[name].check(name, value)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    return checked
