"""The OpenAI API in front of the relay: chat with sound in and out, transcription, translation, speech, models.

A translator like the others: parse → one request to the relay → write. What the model cannot do is refused by the name
of the field, never dropped.
"""
