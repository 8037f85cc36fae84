// An agent of @openai/agents-realtime: asks by voice, is interrupted, says what it heard. npm install @openai/agents-realtime
// usage: node agents_talk.mjs [QUESTION.wav]; the server's address from OPENAI_BASE_URL
import { readFile } from "node:fs/promises";
import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession } from "@openai/agents-realtime";

const file = await readFile(process.argv[2] ?? new URL("../../checkpoints/samples/question.wav", import.meta.url));
const rate = file.readUInt32LE(24);
const sound = file.subarray(44); // mono, 16 bits
const base = (process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:8000/v1").replace(/^http/, "ws");
const transport = new OpenAIRealtimeWebSocket({
  url: `${base}/realtime?model=audio_flamingo_speech`,
  useInsecureApiKey: true,
});
const agent = new RealtimeAgent({ name: "guide", instructions: "" });
const session = new RealtimeSession(agent, {
  transport,
  config: { audio: { input: { format: { type: "audio/pcm", rate } }, output: { speed: 0.5 } } },
});

function speak() {
  const block = Math.round(rate / 25) * 2;
  const whole = Buffer.concat([sound, Buffer.alloc(2 * rate)]);
  for (let start = 0; start < whole.length; start += block) {
    const part = whole.subarray(start, start + block);
    session.sendAudio(part.buffer.slice(part.byteOffset, part.byteOffset + part.length));
  }
}

let heard = 0;
let interruptions = 0;
let turns = 0;
session.on("error", (error) => {
  console.error("error", JSON.stringify(error));
  process.exitCode = 1;
});
transport.on("audio", (event) => {
  if (heard === 0 && interruptions === 0) speak(); // interrupt the answer at its first sound
  heard += event.data.byteLength;
});
session.on("audio_interrupted", () => (interruptions += 1));
transport.on("*", (event) => {
  if (event.type !== "response.done") return;
  turns += 1;
  console.log(`${event.response.status}: ${event.response.output[0]?.content[0]?.transcript ?? ""}`);
  if (event.response.status === "completed") {
    console.log(`turns ${turns}, interruptions ${interruptions}, bytes ${heard}`);
    session.close();
  }
});
await session.connect({ apiKey: process.env.OPENAI_API_KEY ?? "none" });
speak();
