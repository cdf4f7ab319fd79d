"""Where things run: placement, launching, jobs. Importing it settles how Ray authenticates: Ray reads that only once,
when it is imported, and a Ray on this machine listens on all interfaces, so it gets a token that nobody else knows.
"""

import os
import secrets

if not {"RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_JOB_ID"} & os.environ.keys():
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
