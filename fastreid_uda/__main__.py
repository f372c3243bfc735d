"""`python -m fastreid_uda COMMAND`, the same as `fastreid-uda COMMAND`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
