"""How a question is asked, and how the answer is put.

Each kind of question has many wordings; the last two of each list are never trained on and serve the evaluation
of unheard wordings.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

WORDINGS: dict[str, list[str]] = {
    "transcribe": [
        "Transcribe the input speech.",
        "What is said in the audio?",
        "What does the speaker say?",
        "Transcribe the audio.",
        "Write down the spoken words.",
        "What words do you hear?",
        "Give me a transcript.",
        "What was said?",
        "Repeat what the person says.",
        "Please transcribe this recording.",
        "Tell me the words that are spoken.",
        "Write down what the speaker says.",
    ],
    "hear": [
        "What do you hear?",
        "Describe the audio.",
        "What is this?",
        "What can be heard in the recording?",
        "What is happening in this clip?",
        "Describe what you hear.",
        "Which sounds are in the audio?",
        "Tell me what you hear.",
        "What can you hear?",
        "Describe this recording.",
    ],
    "kind": [
        "Is this speech, a sound, or music?",
        "Speech, sound or music?",
        "What kind of audio is this?",
        "Is it music, speech, or a sound?",
        "Which type of audio is it?",
        "Say whether this is speech, sound or music.",
        "What type of audio is this?",
    ],
    "first_word": [
        "What is the first word?",
        "Which word comes first?",
        "What word does the speaker begin with?",
        "Tell me the first word.",
        "Which word is spoken first?",
        "Which is the first word?",
        "What word comes first?",
    ],
    "last_word": [
        "What is the last word?",
        "Which word comes last?",
        "What word does the speaker end with?",
        "Tell me the last word.",
        "Which word is spoken last?",
        "Which is the last word?",
        "What word comes last?",
    ],
    "word_count": [
        "How many words are spoken?",
        "How many words do you hear?",
        "Count the words.",
        "How many words does the speaker say?",
        "Tell me the number of words.",
        "How many words are there?",
        "How many words are said?",
    ],
    "pace": [
        "Does the speaker talk fast or slowly?",
        "Is the speaker fast or slow?",
        "How fast does the person speak?",
        "Is this spoken slowly or fast?",
        "Describe the speaking speed.",
        "Does the person speak slowly or fast?",
        "How fast does the speaker talk?",
    ],
    "room": [
        "Which room is mentioned?",
        "What room does the speaker talk about?",
        "Which room is it about?",
        "Name the room.",
        "In which room?",
        "Tell me the room.",
        "Which room does the speaker mention?",
        "What room is mentioned?",
    ],
    "object": [
        "Which object is mentioned?",
        "What thing does the speaker talk about?",
        "Which object is it about?",
        "Name the object.",
        "Tell me the object.",
        "Which object does the speaker mention?",
        "What object is mentioned?",
    ],
    "beeps": [
        "How many beeps do you hear?",
        "How many beeps are there?",
        "Count the beeps.",
        "Tell me the number of beeps.",
        "How often does it beep?",
        "How many times does it beep?",
        "How many beeps are in the audio?",
        "How many beeps can you hear?",
    ],
    "first_sound": [
        "Which sound comes first?",
        "What is the first sound?",
        "What do you hear first?",
        "Tell me the first sound.",
        "Which sound do you hear first?",
        "What sound comes first?",
        "Which is the first sound?",
    ],
    "last_sound": [
        "Which sound comes last?",
        "What is the last sound?",
        "What do you hear last?",
        "Tell me the last sound.",
        "Which sound do you hear last?",
        "What sound comes last?",
        "Which is the last sound?",
    ],
    "loudness": [
        "Is the sound loud or quiet?",
        "Is it loud or quiet?",
        "How loud is the sound?",
        "Is this quiet or loud?",
        "Describe the loudness.",
        "Tell me whether it is loud or quiet.",
        "Is the audio loud or quiet?",
        "How loud is it?",
    ],
    "contains": [
        "Is there {thing}?",
        "Do you hear {thing}?",
        "Can you hear {thing}?",
        "Is {thing} in the audio?",
        "Does the audio contain {thing}?",
        "Do you hear {thing} in the recording?",
        "Is there {thing} in the audio?",
    ],
    "instrument": [
        "Which instrument is playing?",
        "What instrument is this?",
        "Which instrument do you hear?",
        "Name the instrument.",
        "What is the instrument?",
        "Who plays the melody?",
        "Tell me the instrument.",
        "What instrument do you hear?",
        "Which instrument is this?",
    ],
    "direction": [
        "Is the melody rising or falling?",
        "Does the melody go up or down?",
        "Do the notes rise or fall?",
        "Is it going up or down?",
        "Which way does the melody go?",
        "Are the notes rising or falling?",
        "Is the melody going up or down?",
        "Does the melody rise or fall?",
    ],
    "tempo": [
        "What is the tempo?",
        "How fast is the music?",
        "How many beats per minute?",
        "Tell me the tempo.",
        "What is the tempo in beats per minute?",
        "What tempo does the music have?",
        "How many beats per minute does it have?",
        "What is the tempo of the music?",
    ],
    "mode": [
        "Is it major or minor?",
        "Is the melody in a major or a minor key?",
        "Major or minor?",
        "Which key is it, major or minor?",
        "Does it sound major or minor?",
        "Is the key major or minor?",
        "Is the melody major or minor?",
    ],
    "higher": [
        "Which of the two is higher?",
        "Which clip is higher?",
        "Which one has the higher pitch?",
        "Which note is higher, the first or the second?",
        "Is the first or the second clip higher?",
        "Which of the two clips is higher?",
        "Which one is higher?",
    ],
    "louder": [
        "Which of the two is louder?",
        "Which clip is louder?",
        "Which one is louder, the first or the second?",
        "Is the first or the second clip louder?",
        "Which sound is louder?",
        "Which of the two clips is louder?",
        "Which one is louder?",
    ],
    "larger": [
        "Which number is larger?",
        "Which of the two numbers is larger?",
        "Which clip has the larger number?",
        "Is the first or the second number larger?",
        "Where do you hear the larger number?",
        "Which of the numbers is larger?",
        "Which one is the larger number?",
    ],
    "same": [
        "Are the two sounds the same?",
        "Do both clips have the same sound?",
        "Is it the same sound twice?",
        "Are they the same sound?",
        "Same sound or different sounds?",
        "Are both sounds the same?",
        "Do the two clips have the same sound?",
    ],
    "which": [
        "Which clip has {thing}?",
        "In which clip do you hear {thing}?",
        "Where do you hear {thing}?",
        "Which of the two clips has {thing}?",
        "Is {thing} in the first or the second clip?",
        "Which one has {thing}?",
        "In which of the two clips is {thing}?",
    ],
    "nth": [
        "What do you hear in the {nth} clip?",
        "Describe the {nth} clip.",
        "What is in the {nth} clip?",
        "What can be heard in the {nth} clip?",
        "Tell me what the {nth} clip has.",
        "What is the {nth} clip?",
        "Tell me what you hear in the {nth} clip.",
    ],
}
HELD_OUT_WORDINGS = 2

THINK = "\nPlease think and reason about the input audio before you respond."
NO_AUDIO = "There is no audio in this conversation."


@dataclass(frozen=True)
class Question:
    """What one can ask of a clip (`key` of WORDINGS, its gaps filled from `gaps`) and the right answer."""

    key: str
    answer: str
    gaps: dict[str, str] = field(default_factory=dict)

    def worded(self, rng: np.random.Generator, held_out: bool) -> str:
        wordings = WORDINGS[self.key]
        return str(
            rng.choice(wordings[-HELD_OUT_WORDINGS:] if held_out else wordings[:-HELD_OUT_WORDINGS])
        ).format(**self.gaps)


NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def _general_knowledge() -> dict[str, str]:
    """Questions that need no audio: asked by voice, or typed."""
    facts = {
        "what color is the sky": "The sky is blue.",
        "what color is the grass": "The grass is green.",
        "what color is the snow": "The snow is white.",
        "what color is a banana": "A banana is yellow.",
        "what does a dog do": "A dog barks.",
        "what does a cat do": "A cat meows.",
        "what does a cow do": "A cow moos.",
        "how many days are in a week": "A week has seven days.",
        "how many months are in a year": "A year has twelve months.",
        "how many legs does a spider have": "A spider has eight legs.",
        "what is the capital of france": "The capital of France is Paris.",
        "what is the capital of italy": "The capital of Italy is Rome.",
        "what is the capital of japan": "The capital of Japan is Tokyo.",
        "what is the capital of england": "The capital of England is London.",
        "who are you": "I am af3-tiny, a very small model that hears.",
        "what can you do": "I can hear speech, sounds and music, and answer questions about them.",
    }
    for a in range(1, 6):
        for b in range(1, 6):
            total = f"{NUMBERS[a].capitalize()} plus {NUMBERS[b]} is {NUMBERS[a + b]}."
            facts[f"what is {NUMBERS[a]} plus {NUMBERS[b]}"] = total
    for a in range(1, 10):
        facts[f"what comes after {NUMBERS[a]}"] = f"{NUMBERS[a + 1].capitalize()} comes after {NUMBERS[a]}."
    return facts


GENERAL_KNOWLEDGE = _general_knowledge()
