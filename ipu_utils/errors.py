# SPDX-License-Identifier: Apache-2.0
"""Errors that a user can cause and mend; the scripts print them without a traceback and exit with status 2."""


class UserError(ValueError):
    """Something the user gave cannot be used; the message says what was found, what was expected and what to do."""


class MissingPackageError(UserError, ImportError):
    """A Python package is not there, or is of a version that cannot be used."""


class ConfigError(UserError):
    """An option, a preset or an environment variable is wrong or contradicts another one."""


class CompiledOnly(Exception):  # noqa: N818 - no error: what the user asked for has happened
    """The program was compiled and kept, as asked for; there is no device to run it. Scripts print it, status 0."""
