#!/usr/bin/env bash
# The OpenAI API with curl. usage: openai.sh [CLIP]; the server's address from OPENAI_BASE_URL
set -euo pipefail
url=${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}
clip=${1:-$(dirname "$0")/../checkpoints/samples/digits.wav}
ask() { curl --silent --show-error --fail-with-body --no-buffer -H "Authorization: Bearer ${OPENAI_API_KEY:-none}" "$@"; echo; }

ask "$url/models"

# A question about a clip; with "stream": true the answer comes in events.
echo "{\"model\": \"audio_flamingo\", \"max_completion_tokens\": 64, \"stream\": true, \"messages\": [{\"role\": \"user\", \"content\": [
        {\"type\": \"input_audio\", \"input_audio\": {\"format\": \"wav\", \"data\": \"$(base64 -w0 "$clip")\"}},
        {\"type\": \"text\", \"text\": \"Transcribe the input speech.\"}]}]}" |
  ask "$url/chat/completions" -H "Content-Type: application/json" --data @-

ask "$url/audio/transcriptions" -F model=audio_flamingo -F "file=@$clip" -F response_format=srt

ask "$url/audio/speech" -H "Content-Type: application/json" \
  --data '{"model": "speech", "voice": "alloy", "input": "One, two, three.", "response_format": "mp3"}' | wc -c
