# SPDX-License-Identifier: Apache-2.0
"""All sections of the configuration, and what their options say about themselves."""

from typing import Any, Callable, Dict, List, Tuple

from ipu_utils.config.device_options import DeviceConfig, IpuConfig
from ipu_utils.config.facets import Facets
from ipu_utils.config.model_options import DataConfig, ModelConfig, NmsConfig
from ipu_utils.config.options import Rule, rules_of
from ipu_utils.config.run_options import BenchmarkConfig, EmbeddedConfig, OutputConfig

SCRIPTS = {"throughput": "ipu_inference.py", "embedded": "ipu_embedded_inference.py"}
SECTIONS = {
    "data": DataConfig,
    "model": ModelConfig,
    "nms": NmsConfig,
    "device": DeviceConfig,
    "ipu": IpuConfig,
    "benchmark": BenchmarkConfig,
    "output": OutputConfig,
    "embedded": EmbeddedConfig,
}


def sections_of(script: str) -> Dict[str, Any]:
    """Configuration sections of a script, by the name of `RunConfig`'s field."""
    if script not in SCRIPTS:
        raise ValueError(f"script must be one of {', '.join(SCRIPTS)}; got {script!r}")
    return {name: section for name, section in SECTIONS.items() if name != "embedded" or script == "embedded"}


def all_rules(script: str = "embedded") -> Dict[str, Rule]:
    """Rules of every option of a script; the embedded one has those of both, whose names are the keys of a preset."""
    return {name: rule for section in sections_of(script).values() for name, rule in rules_of(section).items()}


def names_where(asked: Callable[[Facets], bool]) -> Tuple[str, ...]:
    """Names of the options whose facets are such, in the order of their declarations."""
    return tuple(name for name, rule in all_rules().items() if asked(rule.facets))


def sweep_axes() -> List[str]:
    """Options that take comma lists; the first varies slowest."""
    rules = all_rules()
    return sorted(names_where(lambda facets: facets.sweep.kind == "axis"), key=lambda name: rules[name].facets.sweep)
