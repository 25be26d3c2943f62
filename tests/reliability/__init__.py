# SPDX-License-Identifier: Apache-2.0
"""What a user may do wrong, and what must come of it: cases by subject, one runner, one generated table."""
