"""Whether what is compiled is wanted: where it was not built, or with KVSTORE_PURE=1, Python does the same.

Who imports a compiled module asks here first, so that the tests can run, and compare, both ways.
"""

from __future__ import annotations

import os

IS_WANTED = not os.environ.get("KVSTORE_PURE")
