"""`python -m vmount`."""

import sys

from vmount.cli import main

sys.exit(main())
