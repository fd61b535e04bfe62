"""`python -m foldline.node --config FILE.json`"""

import sys

from foldline.node.main import main

sys.exit(main())
