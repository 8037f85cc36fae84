// Ask about a clip with the `openai` package of npm, and read the answer while it is written: npm install openai
// usage: node openai_chat.mjs [CLIP]; the server's address from OPENAI_BASE_URL
import { readFile } from "node:fs/promises";
import OpenAI from "openai";

const clip = process.argv[2] ?? new URL("../checkpoints/samples/siren.wav", import.meta.url);
const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:8000/v1",
  apiKey: process.env.OPENAI_API_KEY ?? "none",
});

const data = (await readFile(clip)).toString("base64");
const messages = [
  {
    role: "user",
    content: [
      { type: "input_audio", input_audio: { data, format: "wav" } },
      { type: "text", text: "What do you hear?" },
    ],
  },
];
const stream = await client.chat.completions.create({
  model: "audio_flamingo",
  messages,
  max_completion_tokens: 64,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");
  if (chunk.usage) console.error(`\n(${chunk.usage.prompt_tokens_details.audio_tokens} tokens of audio)`);
}

const spoken = await client.chat.completions.create({
  model: "audio_flamingo",
  messages,
  modalities: ["text", "audio"],
  audio: { voice: "alloy", format: "wav" },
  max_completion_tokens: 64,
});
console.log(`\n${spoken.choices[0].message.audio.transcript}`);
