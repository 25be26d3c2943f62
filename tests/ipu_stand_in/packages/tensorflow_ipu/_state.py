# SPDX-License-Identifier: Apache-2.0
"""What the plugin keeps for the life of a process: the parsed flags, the configuration, engines, counters."""

import os

# name -> type of its value; bool flags may stand without one. From docs of the plugin's flag parser.
FLAGS = {
    "use_synthetic_data": bool,
    "synthetic_data_categories": str,
    "synthetic_data_initializer": str,
    "use_ipu_model": bool,
    "ipu_model_tiles": int,
    "executable_cache_path": str,
    "log_cycle_count": int,
    "while_loop_brute_force_max_trip_count": int,
    "max_compilation_threads": int,
    "max_infeed_threads": int,
    "tensor_map_file_path": str,
    "dump_schedule_as_dot": bool,
    "fallback_scheduler": bool,
    "allow_nans": bool,
    "null_data_feed": bool,
    "sync_replica_start": bool,
    "enable_hlo_verifier": bool,
    "disable_poplar_version_check": bool,
    "use_on_demand": bool,
    "on_demand_device_poll_time": int,
    "on_demand_device_timeout": int,
    "show_progress_bar": str,
    "save_vertex_graph": str,
}
CATEGORIES = {"infeed", "outfeed", "seed", "hostembedding", "parameters"}


class PoplarFatal(SystemExit):
    """Where the plugin aborts the process; no `except Exception` catches it."""


class Flags(dict):
    """The flags in TF_POPLAR_FLAGS, by name without dashes."""

    def synthetic(self, category):
        """Whether data of this category never crosses between host and device."""
        if not self.get("use_synthetic_data"):
            return False
        return category in (self.get("synthetic_data_categories") or ",".join(CATEGORIES)).split(",")


def parse_flags(text):
    """Parse the variable as the plugin does: space-separated `--flag[=value]`, or the name of a file of them."""
    if text and not text.startswith("-"):
        try:
            with open(text, encoding="utf-8") as file:
                text = " ".join(file.read().split())
        except OSError as error:
            raise PoplarFatal(f"TF_POPLAR_FLAGS: failed to open the flags file {text!r}") from error
    flags = Flags()
    for word in text.split():
        name, equals, value = word.partition("=")
        kind = FLAGS.get(name[2:]) if name.startswith("--") else None
        if kind is None or (kind is not bool and not equals):
            raise PoplarFatal(f"TF_POPLAR_FLAGS: unknown flag or value missing: {word!r}")
        flags[name[2:]] = value not in ("0", "false") if kind is bool else kind(value)
    unknown = set((flags.get("synthetic_data_categories") or "infeed").split(",")) - CATEGORIES
    if unknown:
        raise PoplarFatal(f"TF_POPLAR_FLAGS: unknown synthetic data categories {sorted(unknown)}")
    if "synthetic_data_initializer" in flags and not flags.get("use_synthetic_data"):
        raise PoplarFatal("TF_POPLAR_FLAGS: --synthetic_data_initializer needs --use_synthetic_data")
    if flags.get("ipu_model_tiles") and not flags.get("use_ipu_model"):
        raise PoplarFatal("TF_POPLAR_FLAGS: --ipu_model_tiles needs --use_ipu_model")
    return flags


class State:
    """One process's worth."""

    def __init__(self):
        self.flags_seen = None
        self.configuration = None  # the IPUConfig in effect
        self.compiled = []  # one record per compiled program
        self.engines = {}  # embedded runtime: name -> engine, for the life of the process
        self.building = None  # the embedded program that is being traced
        self.in_flight = []  # functions that make results visible which the device has not finished yet

    def synchronise(self):
        """Wait for the device."""
        for arrive in self.in_flight:
            arrive()
        self.in_flight.clear()

    @property
    def flags(self):
        """Parsed on first use, and never again."""
        if self.flags_seen is None:
            self.flags_seen = parse_flags(os.environ.get("TF_POPLAR_FLAGS", ""))
        return self.flags_seen


current = State()


def reset():
    """Start over, as a new process would."""
    current.__init__()
