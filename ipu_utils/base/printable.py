# SPDX-License-Identifier: Apache-2.0
"""Names are data: how file names, labels and texts of others are shown, so that neither terminal nor reader obeys them.

Every room may import it.
"""

import re
import unicodedata
from typing import Any

# Controls (C0, C1), formats (which turn the direction of writing), halves of surrogate pairs (how Python keeps bytes of
# a file name that are no UTF-8), separators of lines and paragraphs.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_LONGEST_STEM = 150  # letters; leaves room for what is added to it within the 255 bytes of a file name


def shown(value: object) -> str:
    """The text of a value on one line: what a terminal would obey is spelled as in Python, such as \\n and \\x1b.

    Showing what was shown already changes nothing.
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(_spelled(letter) if unicodedata.category(letter) in _HIDDEN else letter for letter in text)


def _spelled(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def one_line(value: object) -> str:
    """As `shown`, for a text of somebody else's over several lines, such as a library's error: spaces for line ends."""
    return shown(" ".join(str(value).split()))


def shown_lines(value: object) -> str:
    """As `shown`, for text whose line ends and tabs are its writer's own."""
    return "\n".join("\t".join(shown(part) for part in line.split("\t")) for line in str(value).split("\n"))


def report_line(name: str, value: Any) -> str:
    """A line of the report: a name of at most 9 letters, and what there is to say, whatever is in it."""
    return f"{name + ':':10} {shown(value)}"


def file_stem(name: str) -> str:
    """A name as the beginning of a file name: no folders, nothing that a shell or terminal obeys, not too long."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", name)[:_LONGEST_STEM].lstrip(".-") or "_"
