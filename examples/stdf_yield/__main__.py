"""`python -m stdf_yield [FILE]`, from the folder `examples`."""

import sys

from .job import main

sys.exit(main())
