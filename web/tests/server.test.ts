import { expect, test } from "vitest";
import { pieces, requestBody } from "../src/server/chat";
import { asCurl, asPython, type Shown } from "../src/server/snippets";
import { EventReader } from "../src/server/sse";
import { refusal } from "../src/server/trouble";
import { closeReason } from "../src/talk/connection";

test("events are found wherever the pieces are cut", () => {
  const stream = 'data: {"a":1}\n\n: comment\n\nevent: x\ndata: one\ndata: two\r\n\r\ndata:[DONE]\n\n';
  const whole = new EventReader().push(stream);
  expect(whole).toEqual(['{"a":1}', "one\ntwo", "[DONE]"]);
  for (let cut = 0; cut < stream.length; cut++) {
    const reader = new EventReader();
    expect([...reader.push(stream.slice(0, cut)), ...reader.push(stream.slice(cut))]).toEqual(whole);
  }
});

test("a chunk gives thoughts, text, sound and its end", () => {
  const chunk = (delta: object, finish: string | null = null): string =>
    JSON.stringify({ choices: [{ delta, finish_reason: finish }], usage: null });
  const read = (text: string): unknown[] => [...pieces(text)];
  expect(read(chunk({ role: "assistant", content: "" }))).toEqual([]);
  expect(read(chunk({ reasoning_content: "hm" }))).toEqual([{ kind: "thought", value: "hm" }]);
  expect(read(chunk({ audio: { transcript: "hi", data: "AAA=" } }))).toEqual([
    { kind: "text", value: "hi" },
    { kind: "audio", value: "AAA=" },
  ]);
  expect(read(chunk({}, "length"))).toEqual([{ kind: "finish", value: "length" }]);
  expect(read('{"choices":[],"usage":{"completion_tokens":0}}')).toEqual([{ kind: "usage", tokens: 0 }]);
  expect(() => read('{"error":{"message":"the voice failed"}}')).toThrow("the voice failed");
});

test("sound is asked for only when it is wanted", () => {
  const body = requestBody({ model: "m", messages: [], think: false, spoken: false, voice: null });
  expect(body).not.toHaveProperty("modalities");
  expect(body).not.toHaveProperty("think");
  expect(requestBody({ model: "m", messages: [], think: true, spoken: true, voice: "en-gb" })).toMatchObject({
    think: true,
    modalities: ["text", "audio"],
    audio: { format: "pcm16", voice: "en-gb" },
  });
});

test.each([
  [401, '{"error":{"message":"a key is needed"}}', null, "a key is needed"],
  [429, '{"error":{"message":"64 requests are in flight"}}', "3", "The server is busy: 64 requests are in flight. Try again in 3 seconds."],
  [429, "", null, "The server is busy. Try again in a moment."],
  [503, '{"error":"UNAVAILABLE: the server is starting"}', "1", "The server is not ready: the server is starting. Try again in a moment."],
  [400, '{"error":{"message":"audio[0]: 20 ms is too short"}}', null, "audio[0]: 20 ms is too short."],
  [403, '{"error":"PERMISSION_DENIED: pages of http://a may not call"}', null, "pages of http://a may not call."],
  [500, "<html>nginx</html>", null, "The server failed (500)."],
  [413, "", null, "The clips are larger than the server takes. Send fewer or shorter ones."],
])("status %d in words", (status, body, after, words) => {
  const trouble = refusal(status, body, after);
  expect(trouble.message).toBe(words);
  expect(trouble.needsKey).toBe(status === 401);
});

test("the end of a conversation says why", () => {
  expect(closeReason(1001, "draining")).toContain("The server is stopping (draining)");
  expect(closeReason(1006, "")).toContain("lost");
});

const shown: Shown = {
  url: "http://127.0.0.1:8000",
  model: "af3",
  files: [
    { name: "a b'c.wav", format: "wav" },
    { name: "d.mp3", format: "mp3" },
  ],
  question: `What's "this"?\n`,
  think: false,
  voice: null,
  needsKey: true,
};

test("names and questions with quotes survive the shell", () => {
  const text = asCurl(shown);
  expect(text).toContain(`base64 -w0 'a b'\\''c.wav'`);
  expect(text).toContain(`What'\\''s \\"this\\"?\\n`);
  expect(text).toContain("$API_KEY");
});

test("Python gets the same question", () => {
  const text = asPython({ ...shown, think: true, voice: "en-gb" });
  expect(text).toContain(`clip("a b'c.wav", "wav")`);
  expect(text).toContain(`extra_body={"think": True}`);
  expect(text).toContain(`modalities=["text","audio"]`);
});
