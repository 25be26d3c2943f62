# SPDX-License-Identifier: Apache-2.0
"""Files of benchmarks: read, and all their commands made, none of them run."""

import copy
import json
import math
import random

import yaml

from fuzz.driver import mutated
from fuzz.in_folder import InFolder
from fuzz.json_surfaces import bent, places_of
from fuzz.texts import WORDS
from ipu_utils import run_benchmarks
from ipu_utils.base.bounded_search import compiled
from ipu_utils.base.errors import UserError
from ipu_utils.launch import benchmark_spec

ODD = (
    "{p.x}", "{p[x]}", "{p!r}", "{p:>999999999}", "{p:{q}}", "{}", "{0}", "{", "}", "{{}}", "python 'x", 'python "{p}',
    "python \0", "python {p}", "python $HOME `id` $(id)", "A=B", "a,b,c", "," * 300, [["a", "b"], [1, 2]], [["a"]],
    "../x", "/", "~", "x" * 300, "1 / 0", "{t} ** 99", "9 ** 9 ** 9", "round(5, -999999999)", "1e999 - 1e999", "max()",
    "(-8) ** 0.5", "(" * 900, "-" * 900 + "1", "1 +" * 1500, "__import__('os')", "(a+)+$", "(", "(a{99999999999})",
    "(?L)(a)", "(?<=a+)(b)", "(" * 300 + ")" * 300, "[[a](b)", float("nan"), float("inf"), 1e300, {1: "a"},
)  # fmt: skip

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the quicker one, where PyYAML has it


class Benchmarks(InFolder):
    """`read_spec`, variants, commands and derived numbers of bent files."""

    name = "benchmarks"

    def __init__(self) -> None:
        super().__init__()
        common = {"generated": True, "data": {
            "throughput": {"regexp": "rate: *(.*?) per s", "reduction_type": "final", "skip": 1},
            "latency": {"regexp": "(?m)^latency (.*)"},
        }}  # fmt: skip
        self._whole = {
            "common_options": common,
            "a_gen": {**common, "cmd": "python x.py --n {n} --m {m}", "parameters": {"n": "1,2", "m": 3},
                      "env": {"A": "1", "B": 2}, "timeout": 1.5, "location": "x", "description": "text",
                      "derived": {"d": {"expr": "1000 * {latency} / {n}"}, "e": {"expr": "max({d}, {m})"}}},
            "b": {"cmd": "poprun --np 2 python3 -c \"print('{{}}')\" {p}", "parameters": [["p", "q"], ["a", 1]]},
        }  # fmt: skip

    def make(self, rng: random.Random) -> bytes:
        """The bytes of a file."""
        value = bent(rng, json.loads(json.dumps(self._whole)))  # nothing in it twice
        for _ in range(rng.choice((0, 1, 1, 2))):
            places = places_of(value)
            if places:
                container, key = rng.choice(places)
                container[key] = copy.deepcopy(rng.choice(ODD))
                if isinstance(container, dict) and rng.random() < 0.2:
                    container[rng.choice((*WORDS, 1, None, True, 0.5))] = container.pop(key)
        try:
            text = yaml.dump(value, Dumper=DUMPER, sort_keys=False) if rng.random() < 0.5 else json.dumps(value)
        except (TypeError, ValueError, yaml.YAMLError):
            text = repr(value)
        content = text.encode("utf-8", "surrogatepass")
        return mutated(rng, content) if rng.random() < 0.15 else content

    def try_out(self, given: bytes) -> str:
        """Accepted is a file all of whose commands could be run; refused is a UserError in one line."""
        path = self.folder / "benchmarks.yml"
        path.write_bytes(given)
        try:
            spec = benchmark_spec.read_spec(path)
        except UserError as error:
            assert str(error).isprintable(), str(error)
            return "refused"
        results = []
        for one in spec.values():
            variants = benchmark_spec.variants(one)
            folders = run_benchmarks.log_folders(variants)
            assert len({*folders}) == len(variants) and not any({"/", "\0"} & {*name} for name in folders), folders
            for metric in (one.entry.get("data") or {}).values():
                compiled(metric["regexp"])
            for variant in variants[:20]:
                words = benchmark_spec.words_of(one, benchmark_spec.command_of(one, variant))
                assert {"python", "python3"} & {*words} and not any("\0" in word for word in words), words
                assert not any("\0" in name + value or "=" in name for name, value in one.env.items()), one.env
                found = benchmark_spec.derive(one, variant, dict.fromkeys(one.entry.get("data") or {}, 7.0))
                assert all(value is None or math.isfinite(value) for value in found.values()), found
                results.append({**run_benchmarks.empty_result(one, variant), "results": found})
        json.dumps(results, allow_nan=False)
        assert run_benchmarks.format_results(results).replace("\n", "").isprintable()
        return "accepted" if results else "refused"
