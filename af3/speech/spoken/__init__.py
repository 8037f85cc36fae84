"""Converts written text to the words that a voice speaks. The answer's text itself never changes.

There are two steps. `markup.plain` removes layout (Markdown, HTML, LaTeX commands, emoji) and keeps signs, in any
language. `english.in_english` then spells out signs, numbers and units. Voices of other languages skip the second step.
"""
