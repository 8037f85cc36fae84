"""Runs in the environment of xllamacpp: starts the server that is in it, with settings from the command line."""

from __future__ import annotations

import argparse
import signal

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="the LLM, GGUF")
    parser.add_argument("--encoder", default="", help="encoder and adaptor, GGUF; none by default")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True, help="answers at a time")
    parser.add_argument("--context", type=int, required=True, help="tokens of all slots together")
    given = parser.parse_args()
    settings = xllamacpp.CommonParams()
    settings.model.path, settings.mmproj.path = given.model, given.encoder
    settings.hostnames, settings.port = [given.host], given.port
    settings.n_parallel, settings.n_ctx = given.slots, given.context
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = given.threads
    server = xllamacpp.Server(settings)
    print(server.listening_address, flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
