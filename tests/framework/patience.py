"""How much longer than usual tests wait: TEST_PATIENCE, 1 by default, more where the machine is emulated."""

import os

PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))
