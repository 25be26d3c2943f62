# SPDX-License-Identifier: Apache-2.0
"""Random inputs for everything that reads what a user or a stranger wrote. See `fuzz.driver`."""
