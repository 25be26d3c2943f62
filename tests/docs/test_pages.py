# SPDX-License-Identifier: Apache-2.0
"""The pages: they say for whom they are, show a command first, and their links lead somewhere."""

import re

import pytest
from shown_commands import PAGES, commands_of

README, *OTHERS = PAGES
NO_COMMANDS = ("ARCHITECTURE.md",)  # a map
FIRST_LINES = 16
FIRST_SCREENS = 100  # lines of the README, in which both the first number and the first photograph are
LINK = re.compile(r"\[[^]]*\]\(([^)\s]+)\)")
# Said so that only whoever wrote them knows what is meant.
UNCLEAR = ("AutoML's way", "kept executable", "everybody has")


def text_of(path):
    return path.read_text(encoding="utf-8")


def anchors_of(path):
    """What a link to a heading of the page has behind its #, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.name)
def test_a_page_says_for_whom_it_is_and_shows_a_command_first(page):
    lines = text_of(page).splitlines()
    assert lines[0].startswith("# ") and lines[2].startswith("For "), lines[:3]
    if page.name not in NO_COMMANDS:
        assert list(commands_of("\n".join(lines[:FIRST_LINES]), page.name))


def test_the_readme_leads_to_a_number_and_a_photograph_before_all_else():
    lines = text_of(README).splitlines()
    shown = [" ".join(command.words) for command in commands_of("\n".join(lines[:FIRST_SCREENS]), "README.md")]
    assert shown[0] == "make benchmark" and "make demo" in shown
    assert any("--output-predictions" in command for command in shown)
    before_commands = "\n".join(lines[: lines.index("make benchmark")])
    assert all(word in before_commands for word in ("Never run", "IPU", "GPU", "published COCO weights"))
    assert "](docs/pictures/annotated.jpg)" in before_commands
    assert len(lines) <= 170


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(text_of(page)):
        if "://" not in target:
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            assert path.exists(), target
            assert not anchor or anchor in anchors_of(path), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_words_are_those_of_the_field(page):
    text = " ".join(text_of(page).split())
    assert [words for words in UNCLEAR if words.lower() in text.lower()] == []
