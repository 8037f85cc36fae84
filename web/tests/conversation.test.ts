import { expect, test } from "vitest";
import { toBase64 } from "../src/sound/pcm";
import { newConversation, type ServerEvent, spokenCharacters } from "../src/talk/conversation";

const SECOND = toBase64(new Uint8Array(48000));
const ids = { response_id: "r", item_id: "a", content_index: 0 };

function begun(heardMs = 400) {
  const sent: ServerEvent[] = [];
  const played: string[] = [];
  const troubles: string[] = [];
  let clock = 0;
  const ear = {
    play: (item: string) => void played.push(item),
    end: () => {},
    flush: async () => ({ item: "a", ms: heardMs }),
    show: () => {},
    trouble: (message: string) => void troubles.push(message),
  };
  const talk = newConversation((event) => sent.push(event), ear, { voice: null, handsFree: true }, () => clock);
  const receive = async (...events: ServerEvent[]): Promise<void> => {
    for (const event of events) await talk.receive(event);
  };
  return { talk, sent, played, troubles, receive, tick: (ms: number) => (clock += ms) };
}

const answer: ServerEvent[] = [
  { type: "response.created", response: { id: "r" } },
  { type: "conversation.item.added", item: { id: "a", role: "assistant", content: [] }, previous_item_id: null },
  { type: "response.output_audio_transcript.delta", ...ids, delta: "one two three four" },
  { type: "response.output_audio.delta", ...ids, delta: SECOND },
];

test("nothing is recorded before the server has taken the settings", async () => {
  const { talk, sent, receive } = begun();
  expect(talk.ready).toBe(false);
  await receive({ type: "session.created" });
  expect(sent[0]).toMatchObject({ type: "session.update", session: { type: "realtime", output_modalities: ["audio"] } });
  expect(talk.ready).toBe(false);
  await receive({ type: "session.updated" });
  expect(talk.ready).toBe(true);
  expect(talk.phase).toBe("listening");
});

test("speech stops the answer, and the server learns what was heard", async () => {
  const { talk, sent, played, receive } = begun(400);
  await receive({ type: "session.updated" }, ...answer);
  talk.startedPlaying("a");
  expect(talk.phase).toBe("speaking");
  await receive({ type: "input_audio_buffer.speech_started", item_id: "u" });
  expect(sent).toEqual([
    { type: "conversation.item.truncate", item_id: "a", content_index: 0, audio_end_ms: 400 },
    { type: "conversation.item.retrieve", item_id: "a" },
  ]);
  // What was already on its way is not played, nor shown as said.
  await receive({ type: "response.output_audio.delta", ...ids, delta: SECOND });
  await receive({ type: "response.output_audio_transcript.delta", ...ids, delta: " five" });
  await receive({ type: "response.done", response: { id: "r", status: "cancelled", output: [{ id: "a" }] } });
  expect(played).toEqual(["a"]);
  const [turn] = talk.turns;
  expect(turn!.text).toBe("one two three four");
  expect(turn!.text.slice(0, turn!.spoken)).toBe("one ");
  expect(turn!.state).toBe("cut");
  expect(talk.phase).toBe("hearing");
  // The page estimates; the server knows.
  const heard = { type: "output_audio", transcript: "one two" };
  await receive({ type: "conversation.item.retrieved", item: { id: "a", role: "assistant", content: [heard] } });
  expect(turn!.text.slice(0, turn!.spoken)).toBe("one two");
});

test("of an answer that was cancelled before its sound came, nothing was spoken", async () => {
  const { talk, receive } = begun();
  await receive(...answer.slice(0, 3), { type: "input_audio_buffer.speech_started" });
  const item = { id: "a", content: [{ type: "output_audio", transcript: "" }] };
  await receive({ type: "response.done", response: { id: "r", status: "cancelled", output: [item] } });
  expect(talk.turns[0]).toMatchObject({ state: "cut", spoken: 0 });
});

test("no more than came is ever said to have been heard", async () => {
  const { sent, receive } = begun(1700);
  await receive(...answer, { type: "input_audio_buffer.speech_started" });
  expect(sent.at(-2)).toMatchObject({ audio_end_ms: 1000 });
});

test("the Stop button tells the server too; an answer without sound yet is only cancelled", async () => {
  const { talk, sent, receive } = begun();
  await receive(answer[0]!);
  await talk.interrupt(true);
  expect(sent).toEqual([{ type: "response.cancel", response_id: "r" }]);
  expect(talk.answering).toBe(false);
});

test("an answer that was heard to its end is not truncated", async () => {
  const { talk, sent, receive } = begun();
  await receive(...answer, { type: "response.output_audio.done", ...ids });
  await receive({ type: "response.done", response: { id: "r", status: "completed", output: [{ id: "a" }] } });
  expect(talk.answering).toBe(true); // still in the loudspeaker
  talk.finishedPlaying("a");
  expect(talk.phase).toBe("listening");
  await receive({ type: "input_audio_buffer.speech_started" });
  expect(sent).toEqual([]);
  expect(talk.turns[0]!.spoken).toBe("one two three four".length);
});

test("turns stand in the server's order, and a transcript may come late", async () => {
  const { talk, receive } = begun();
  await receive({ type: "conversation.item.added", item: { id: "u1", role: "user", content: [{ type: "input_audio" }] } });
  await receive(...answer);
  await receive({ type: "conversation.item.added", item: { id: "u0", role: "user" }, previous_item_id: "u1" });
  expect(talk.turns.map(({ id }) => id)).toEqual(["u1", "u0", "a"]);
  await receive({ type: "conversation.item.input_audio_transcription.completed", item_id: "u1", transcript: " hello " });
  expect(talk.turns[0]).toMatchObject({ text: "hello", state: "done" });
});

test("latency is counted from the end of the question", async () => {
  const { talk, receive, tick } = begun();
  tick(5000);
  await receive({ type: "input_audio_buffer.speech_stopped" });
  tick(80);
  await receive(...answer);
  tick(40);
  talk.startedPlaying("a");
  expect(talk.latency).toEqual({ text: 80, audio: 120 });
});

test("a button that was only touched asks nothing", async () => {
  const { talk, sent } = begun();
  await talk.press();
  talk.release(false);
  expect(sent.map(({ type }) => type)).toEqual(["input_audio_buffer.clear", "input_audio_buffer.clear"]);
  await talk.press();
  talk.release(true);
  expect(sent.slice(-2).map(({ type }) => type)).toEqual(["input_audio_buffer.commit", "response.create"]);
});

test("an answer that fails says why and listens again", async () => {
  const { talk, troubles, receive } = begun();
  await receive({ type: "response.created", response: { id: "r" } });
  const details = { error: { message: "the model is away" } };
  await receive({ type: "response.done", response: { id: "r", status: "failed", status_details: details, output: [] } });
  expect(troubles).toEqual(["the model is away"]);
  expect(talk.phase).toBe("listening");
});

test.each([
  [0, ""],
  [499, "one two "],
  [1000, "one two three four"],
  [2000, "one two three four"],
])("at %d ms of a second", (ms, said) => {
  const text = "one two three four";
  expect(text.slice(0, spokenCharacters(text, ms, 1000))).toBe(said);
});
