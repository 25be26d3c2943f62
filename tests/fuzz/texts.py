# SPDX-License-Identifier: Apache-2.0
"""Words that break parsers."""

import random
from typing import Sequence

WORDS = (
    "", " ", "0", "1", "7", "-1", "1.5", "1e3", "1e999", "-inf", "nan", "0x10", "1_0", "\u0663", "\xb2", "\xbd",
    "12\u200b", "true", "No", "null", "~", "~nobody-of-that-name/x", "None", "99999999999999999999", "9" * 5000,
    "a" * 5000, "5ms", "512x", "x512", "640x384", "512x512x3", "0x0", "1x1", "100000", "efficientdet-d0",
    "efficientdet-d9", "EFFICIENTDET-D0", "..", "/", "/dev/null", "/proc/self/mem", "a/b.yml", "\udcff",
    "\U0001f4a9", "\xe9", "\x1b[31m", "a\nb", "\t", "'", '"', "\\", "%s", "%(x)s", "{0}", "$HOME", "`id`", "--",
    "-", "=", "=1", "a=", "a=1,b", "[", "]", "[[[[", "((((", "{}", "{[]: 1}", "1*2*3", "*", "a.b.c=1",
    "__class__=1", "__dict__.x=1", "keys=1", "update=1", "best-class", "half", "float", "uint8", "cpu", "ipu",
    "gpu", "auto", "tensorflow", "openvino", "generated", "image-directory",
)  # fmt: skip


def word(rng: random.Random, more: Sequence[str] = ()) -> str:
    """A word, sometimes bent."""
    pool = more if more and rng.random() < 0.6 else WORDS
    found = rng.choice(pool)
    return bent(rng, found) if rng.random() < 0.2 else found


def bent(rng: random.Random, text: str) -> str:
    """A text with a character changed, doubled, lost or put in, or with another word behind it."""
    place = rng.randrange(len(text) + 1)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:place] + text[place + 1 :]
    if kind == 1:
        return text[:place] + chr(rng.choice((rng.randrange(1, 128), rng.randrange(128, 0xD800)))) + text[place:]
    if kind == 2:
        return text[:place] + text[place : place + 1] * rng.choice((2, 40)) + text[place:]
    return text + rng.choice(WORDS[:40])
