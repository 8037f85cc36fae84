"""The front door: what clients reach instead of Triton itself.

Triton closes its endpoints by kind (`--grpc-restricted-protocol`), never by model, so an open Triton lets
anybody feed raw tensors to the inner models. The door lets only the ensembles through, and only with what a
client may ask: in both protocols, with TLS, with deadlines and a bounded number of requests in flight.
"""

import os

# gRPC reads it when it is imported. A restart of Triton forks and execs at once: there is nothing to save, and
# nothing to be said of it on the operator's terminal.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
