"""`python -m kvctl` is `kvctl`."""

import sys

from kvctl.main import main

sys.exit(main())
