"""Encodes and decodes text with the checkpoint's tokenizer, without torch or Transformers."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer


class Tokenizer:
    """A checkpoint's tokenizer in which text can never become a control token.

    `tokenizer.json` would encode `<|im_end|>` or `<sound>` in a text as one token. Here the special tokens are removed
    before the file is loaded, so they are encoded as letters; only `token_id` gives control tokens. For all other text
    the ids equal Transformers'.
    """

    def __init__(self, definition: str):
        """definition: the text of a tokenizer.json."""
        parsed = json.loads(definition)
        added = parsed.get("added_tokens", [])
        self._control_ids = {token["content"]: token["id"] for token in added if token["special"]}
        parsed["added_tokens"] = [token for token in added if not token["special"]]
        self._text = RustTokenizer.from_str(json.dumps(parsed))
        self._whole = RustTokenizer.from_str(definition)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Load `folder/tokenizer.json`."""
        return cls((folder / "tokenizer.json").read_text(encoding="utf-8"))

    def encode(self, text: str) -> list[int]:
        """Encode plain text; special tokens in it are encoded as text."""
        return self._text.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Decode a whole answer without special tokens. For streams see `af3.outputs.detokenizer`."""
        return self._whole.decode(ids, skip_special_tokens=True)

    def token_id(self, token: str) -> int:
        """Id of a control token such as `<|im_start|>`. Raises KeyError when the checkpoint lacks it."""
        return self._control_ids[token]

    @cached_property
    def control_ids(self) -> frozenset[int]:
        """Ids of all special tokens, which are never part of a text."""
        return frozenset(self._control_ids.values())

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of one id (byte-level BPE); empty for special tokens and ids outside the vocabulary."""
        if token_id < 0 or token_id in self.control_ids:
            return b""
        piece = self._whole.id_to_token(token_id)
        if piece is None:
            return b""
        try:
            return bytes(_BYTE_OF_LETTER[letter] for letter in piece)
        except KeyError:  # an added token that is not written in the byte alphabet
            return piece.encode()


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level BPE uses for the 256 bytes (GPT-2, `bytes_to_unicode`)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    hidden = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + place): byte for place, byte in enumerate(hidden)}


_BYTE_OF_LETTER = _byte_alphabet()
