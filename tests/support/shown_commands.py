# SPDX-License-Identifier: Apache-2.0
"""Commands that the documents show: found in their Markdown, and split into words as a shell does."""

import re
import shlex
from pathlib import Path
from typing import Iterator, List, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

BEGINS = re.compile(r"(?:[A-Z_0-9]+=\S* +)*(?:python[0-9.]*|make|mpirun|poprun)(?= |$)")
INLINE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
INNER = re.compile(r"\$\((python[^()]*)\)")  # eval "$(python ...)"
BRACES = re.compile(r"\{([\w.]+(?:,[\w.]+)+)\}")
JOINTS, REDIRECTIONS = ("&&", "||", "|", ";", "&"), (">", ">>", "<", "2>")
LAUNCHERS = ("mpirun", "poprun")


class Shown(NamedTuple):
    """A command of a page, without variables of the environment and without what starts several of it."""

    page: str
    words: List[str]

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def texts_of(markdown: str) -> Iterator[str]:
    """Commands as they are written: in fenced blocks, in indented blocks, and as inline code; each on one line."""
    fenced, going_on, prose = False, "", []
    for line in markdown.splitlines():
        text = line.strip()
        if text.startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and text):
            going_on += text
            if going_on.endswith("\\"):
                going_on = going_on[:-1]
                continue
            if BEGINS.match(going_on):
                yield going_on
            going_on = ""
        else:
            prose.append(line)
    for paragraph in re.split(r"\n\s*\n", "\n".join(prose)):
        for match in INLINE.finditer(paragraph):
            code = " ".join(match.group(2).split())
            yield from (code,) if BEGINS.match(code) else INNER.findall(code)


def expanded(word: str) -> List[str]:
    """Braces, as bash expands them."""
    match = BRACES.search(word)
    if match is None:
        return [word]
    before, after = word[: match.start()], word[match.end() :]
    return [one for part in match.group(1).split(",") for one in expanded(before + part + after)]


def split(text: str) -> Iterator[List[str]]:
    """The commands of a line, each as its words; left out are other programs than python and make, and python alone."""
    commands: List[List[str]] = [[]]
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    for word in lexer:
        if word in JOINTS:
            commands.append([])
        else:
            commands[-1].extend(expanded(word))
    for words in commands:
        words = words[: next((place for place, word in enumerate(words) if word in REDIRECTIONS), len(words))]
        while words and re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):
            words = words[1:]
        if words and words[0] in LAUNCHERS:
            words = words[next((place for place, word in enumerate(words) if word.startswith("python")), len(words)) :]
        if (words[1:] and BEGINS.match(words[0])) or words == ["make"]:
            yield words


def commands_of(markdown: str, page: str) -> Iterator[Shown]:
    """All commands of a page."""
    for text in texts_of(markdown):
        for words in split(text):
            yield Shown(page, words)


def shown_commands() -> List[Shown]:
    """All commands of all pages, each once."""
    found = {}
    for path in PAGES:
        for command in commands_of(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix()):
            found.setdefault(" ".join(command.words), command)
    return list(found.values())
