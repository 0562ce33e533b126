"""`python -m zoo.cli`: the command where no script was installed (a checkout on PYTHONPATH)."""

import sys

from zoo.cli.app import main

sys.exit(main())
