# SPDX-License-Identifier: Apache-2.0
"""Fixtures around preset files. Name this module in `pytest_plugins`."""

import pytest


@pytest.fixture
def preset(tmp_path):
    """A function that writes a preset file and returns its path."""

    def write(text):
        path = tmp_path / "preset.yml"
        path.write_text(text)
        return str(path)

    return write
