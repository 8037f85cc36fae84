"""Run a command that is told to end (SIGTERM) when the process that started it dies, however it dies.

python -I -S child.py PARENT_PID COMMAND …

A program of its own and no hook between fork and exec: a hook makes Python fork for real, and fork handlers of
gRPC, whose threads do not exist in the child, can end it there (SIGABRT in its pollers).
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):  # it died before it could be said
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
