# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can cause and mend; the scripts print them without a traceback and exit with status 2."""

from typing import Tuple

from ipu_utils.base.printable import shown


class UserError(ValueError):
    """Something the user gave cannot be used; the message says what was found, what was expected and what to do.

    Every argument is one line of the message. Names in it are shown, not obeyed: a file's name cannot begin a new line.
    """

    def __str__(self) -> str:
        return "\n".join(self.lines)

    @property
    def lines(self) -> Tuple[str, ...]:
        """The message, line by line."""
        return tuple(shown(line) for line in self.args)


class MissingPackageError(UserError, ImportError):
    """A Python package is not there, or is of a version that cannot be used."""


class ConfigError(UserError):
    """An option, a preset or an environment variable is wrong or contradicts another one."""


class NotSupportedError(UserError):
    """An engine does not compute what was asked of it. In a sweep this is a property of the combination, no failure."""


class CompiledOnly(Exception):  # noqa: N818 - no error: what the user asked for has happened
    """The program was compiled and kept, as asked for; there is no device to run it. Scripts print it, status 0."""
