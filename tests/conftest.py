"""What holds for all tests.

Hypothesis draws the same examples in every run, so that a change is judged by what it did and not by chance.
`HYPOTHESIS_PROFILE=explore make test` looks for new ones.
"""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, print_blob=True)
settings.register_profile("explore", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
