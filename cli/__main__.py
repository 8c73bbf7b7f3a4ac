"""`python -m ragstone.cli`, for where the `ragstone` script is not on the path."""

import sys

from . import main

sys.exit(main())
