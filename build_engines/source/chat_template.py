"""The chat template of Audio Flamingo 3, in words of this project."""

# As in the template of nvidia/audio-flamingo-3-hf, a turn becomes one <sound> (if it has audio) followed by all its
# texts, whatever their order. A conversation without a system turn gets the default one, which replaces the @.
CHAT_TEMPLATE = """\
{%- macro turn(role, body) -%}
{{ '<|im_start|>' ~ role ~ '\\n' ~ body ~ '<|im_end|>\\n' }}
{%- endmacro -%}
{%- if messages[0].role != 'system' -%}
{{ turn('system', '@') }}
{%- endif -%}
{%- for message in messages if message.content is not none -%}
{%- if message.content is string -%}
{{ turn(message.role, message.content) }}
{%- else -%}
{%- set part = namespace(sound='', text='') -%}
{%- for item in message.content -%}
{%- if item.type == 'audio' or 'audio' in item -%}
{%- set part.sound = '<sound>' -%}
{%- elif item.type == 'text' or 'text' in item -%}
{%- set part.text = part.text ~ item.text -%}
{%- endif -%}
{%- endfor -%}
{{ turn(message.role, part.sound ~ part.text) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\\n' }}
{%- endif -%}
"""
