"""Renders the report as one self-contained HTML page; understands only the Markdown that `perf.report` writes."""

from __future__ import annotations

import base64
import html as markup
import re
from collections.abc import Sequence
from pathlib import Path

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; font-size: 13px; display: block; overflow-x: auto }
th, td { border: 1px solid #ccc; padding: .3rem .5rem; text-align: right }
th:first-child, td:first-child { text-align: left }
th { background: #f2f4f6; font-weight: 600 } img { max-width: 100% } code { background: #f2f4f6 }
"""


def html(text: str, images: Sequence[Path]) -> str:
    """Render `text` (Markdown headings, paragraphs, tables and `code`); PNG `images` are embedded."""
    blocks = [_block(block) for block in text.strip().split("\n\n")]
    pictures = [_picture(path) for path in images]
    title = markup.escape(text.partition("\n")[0].lstrip("# "))
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style>\n" + "\n".join([*blocks, *pictures]) + "\n</html>\n"
    )


def _block(block: str) -> str:
    if block.startswith("#"):
        level = len(block) - len(block.lstrip("#"))
        return f"<h{level}>{_inline(block.lstrip('# '))}</h{level}>"
    if block.startswith("|"):
        head, _, *rows = block.splitlines()
        return f"<table>{_row(head, 'th')}{''.join(_row(row, 'td') for row in rows)}</table>"
    return f"<p>{_inline(block)}</p>"


def _row(line: str, cell: str) -> str:
    cells = line.strip("| ").split(" | ")
    return "<tr>" + "".join(f"<{cell}>{_inline(text)}</{cell}>" for text in cells) + "</tr>"


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", markup.escape(text))


def _picture(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{markup.escape(path.stem)}" src="data:image/png;base64,{data}"></p>'
