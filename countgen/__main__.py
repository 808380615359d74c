"""`python -m countgen`: the same as the `countgen` command."""

import sys

from countgen.app.cli import main

sys.exit(main())
