"""`python -m synthkit` is the same as `synthkit`."""

import sys

from synthkit.cli import main

sys.exit(main())
