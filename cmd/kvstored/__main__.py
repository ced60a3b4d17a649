"""`python -m kvstored` is `kvstored`."""

import sys

from kvstored.main import main

sys.exit(main())
