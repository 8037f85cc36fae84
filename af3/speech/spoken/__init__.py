"""Written text → the words that a voice says. The text of an answer itself never changes.

Two steps. `markup.plain` takes away what is only layout (Markdown, HTML, LaTeX commands, emoji) and keeps the signs;
it knows no language. `english.in_english` then says signs, numbers and units in words. A voice of another language
skips the second step, so nothing English is put into its text.
"""
