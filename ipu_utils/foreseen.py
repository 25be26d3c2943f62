# SPDX-License-Identifier: Apache-2.0
"""What a --dry-run says of the network, found out by whatever would compile it."""

from typing import Any, NamedTuple, Optional

TO_BE_COMPILED = "to be compiled"


class Foreseen(NamedTuple):
    """What a run would work with."""

    weights: str  # for the report
    executable: str  # where the network comes from: a file, or TO_BE_COMPILED
    header: Optional[Any] = None  # the executable's header, of a file that is given, whose options count
