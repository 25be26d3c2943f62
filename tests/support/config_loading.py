# SPDX-License-Identifier: Apache-2.0
"""Loading a configuration in tests: on a machine with a chosen device, and the messages of those that are refused."""

import pytest

from ipu_utils.config.run_config import load_config


def load(*argv, device="ipu", script="throughput", environ=None):
    """Configuration on a machine whose best device is `device`."""
    choose = lambda word: device if word == "auto" else word  # noqa: E731
    return load_config([str(word) for word in argv], script, choose_device=choose, environ=environ or {})


def refused(capsys, *argv, **kwargs):
    """The error message for a command line that cannot be used."""
    with pytest.raises(SystemExit) as caught:
        load(*argv, **kwargs)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.startswith("error: ")
    return error
