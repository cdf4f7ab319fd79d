"""Where things run: placement, launching, jobs. Importing it settles how Ray authenticates: Ray
reads that only once, when it is imported, and a Ray on this machine listens on all interfaces, so
it gets a token that nobody else knows."""

import os
import secrets

_own_token = ""
if not {"RAY_AUTH_MODE", "RAY_ADDRESS", "RAY_JOB_ID"} & os.environ.keys():
    os.environ["RAY_AUTH_MODE"] = "token"
    if not {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        _own_token = os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def use_cluster_token() -> None:
    """Leave the token made here unused, for what talks to a cluster of others. Call before Ray is
    imported.
    """
    if _own_token and os.environ.get("RAY_AUTH_TOKEN") == _own_token:
        del os.environ["RAY_AUTH_TOKEN"]
