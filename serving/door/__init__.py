"""The front door: what clients reach instead of Triton itself.

Triton closes its endpoints by kind (`--grpc-restricted-protocol`), never by model, so an open Triton lets
anybody feed raw tensors to the inner models. The door lets only the ensembles through, and only with what a
client may ask: in both protocols, with TLS, with deadlines and a bounded number of requests in flight.
"""
