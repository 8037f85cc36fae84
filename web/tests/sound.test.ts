import { expect, test } from "vitest";
import { fromBase64, pcm16Reader, toBase64, toPcm16 } from "../src/sound/pcm";
import { playbackQueue } from "../src/sound/playback_queue";
import { newResampler } from "../src/sound/resampler";
import { speechGate } from "../src/sound/speech_gate";

const tone = (hz: number, rate: number, count: number): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => Math.sin((2 * Math.PI * hz * i) / rate));
const rms = (samples: Float32Array): number => Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length);

test.each([
  [48000, 24000],
  [44100, 24000],
  [16000, 24000],
  [24000, 48000],
  [24000, 44100],
])("a tone keeps its pitch, phase and level from %d to %d Hz", (from, to) => {
  const resampler = newResampler(from, to);
  const input = tone(1000, from, from / 2);
  const output: number[] = [];
  // As the browser gives it: in blocks of 128.
  for (let at = 0; at < input.length; at += 128) output.push(...resampler.push(input.subarray(at, at + 128)));
  output.push(...resampler.end());
  expect(Math.abs(output.length - to / 2)).toBeLessThanOrEqual(1);
  const wanted = tone(1000, to, output.length);
  const error = Float32Array.from(output, (x, i) => x - wanted[i]!).subarray(500, -500);
  expect(rms(error)).toBeLessThan(1e-3);
});

test("what the lower rate cannot hold is cut, not folded down", () => {
  const output = newResampler(48000, 24000).push(tone(15000, 48000, 24000));
  expect(rms(output.subarray(500))).toBeLessThan(3e-3);
});

test("a stream in pieces is the stream as a whole", () => {
  const input = tone(440, 44100, 5000);
  const whole = newResampler(44100, 24000).push(input);
  const resampler = newResampler(44100, 24000);
  const parts = [1, 2, 127, 870, 4000].flatMap((size, i, sizes) => {
    const start = sizes.slice(0, i).reduce((a, b) => a + b, 0);
    return [...resampler.push(input.subarray(start, start + size))];
  });
  expect(parts.length).toBe(whole.length);
  parts.forEach((sample, i) => expect(sample).toBeCloseTo(whole[i]!, 5));
});

test("PCM16 goes out clipped and comes back, however the bytes are cut", () => {
  const bytes = toPcm16(Float32Array.of(0, 0.5, -0.5, 2, -2));
  const read = pcm16Reader();
  const back = [...read(bytes.subarray(0, 3)), ...read(bytes.subarray(3, 4)), ...read(bytes.subarray(4))];
  [0, 0.5, -0.5, 1, -1].forEach((sample, i) => expect(back[i]).toBeCloseTo(sample, 3));
  expect(back.length).toBe(5);
});

test("base64 of more bytes than one call may have arguments", () => {
  const bytes = Uint8Array.from({ length: 200_001 }, (_, i) => i * 7);
  expect(toBase64(bytes)).toBe(Buffer.from(bytes).toString("base64"));
  expect(Buffer.compare(fromBase64(toBase64(bytes)), bytes)).toBe(0);
});

test("the queue plays items in order and counts to the sample", () => {
  const queue = playbackQueue();
  queue.push("a", Float32Array.of(1, 1, 1));
  queue.push("b", Float32Array.of(2, 2));
  queue.end("a");
  queue.end("b");
  const out = new Float32Array(4);
  expect(queue.render(out)).toEqual([
    { kind: "started", item: "a" },
    { kind: "finished", item: "a", played: 3 },
    { kind: "started", item: "b" },
  ]);
  expect([...out]).toEqual([1, 1, 1, 2]);
  expect(queue.render(out)).toEqual([{ kind: "finished", item: "b", played: 2 }]);
  expect([...out]).toEqual([2, 0, 0, 0]);
});

test("an item that waits for more is not finished", () => {
  const queue = playbackQueue();
  queue.push("a", Float32Array.of(1));
  const out = new Float32Array(4);
  expect(queue.render(out).map(({ kind }) => kind)).toEqual(["started"]);
  expect(queue.render(out)).toEqual([]);
  queue.end("a");
  expect(queue.render(out)).toEqual([{ kind: "finished", item: "a", played: 1 }]);
});

test("a flush fades out one block, tells what was played, and forgets the rest", () => {
  const queue = playbackQueue();
  queue.push("a", new Float32Array(100).fill(1));
  const out = new Float32Array(10);
  queue.render(out);
  queue.flush();
  const reports = queue.render(out);
  expect(reports.at(-1)).toEqual({ kind: "flushed", item: "a", played: 20 });
  expect(out[9]).toBe(0);
  expect(queue.render(out)).toEqual([]);
  expect(Math.max(...out)).toBe(0);
});

test("a held queue is silent and goes on where it stopped", () => {
  const queue = playbackQueue();
  queue.push("a", Float32Array.from({ length: 100 }, (_, i) => i));
  const out = new Float32Array(10);
  queue.hold(true);
  expect(queue.render(out).at(-1)).toEqual({ kind: "silent", item: "a", played: 10 });
  expect(queue.render(out)).toEqual([]);
  expect(Math.max(...out)).toBe(0);
  queue.hold(false);
  queue.render(out);
  expect(queue.current).toEqual({ item: "a", played: 20 });
  expect(out[9]).toBe(19);
});

test("held and then flushed, an item has played what was heard", () => {
  const queue = playbackQueue();
  queue.push("a", new Float32Array(100).fill(1));
  const out = new Float32Array(10);
  queue.hold(true);
  for (let i = 0; i < 5; i++) queue.render(out);
  queue.flush();
  expect(queue.render(out)).toEqual([{ kind: "flushed", item: "a", played: 10 }]);
  queue.push("b", new Float32Array(10).fill(1));
  queue.render(out);
  expect(out[9]).toBe(1);
});

test("the gate opens two blocks after speech begins and stays shut in steady noise", () => {
  const gate = speechGate();
  const changes = (levels: number[]): number[] => levels.flatMap((level, i) => (gate.push(level) ? [i] : []));
  expect(changes(Array.from({ length: 300 }, (_, i) => 0.004 + 0.001 * (i % 3)))).toEqual([]);
  expect(changes([0.1, 0.1, 0.1])).toEqual([1]);
  expect(gate.loud).toBe(true);
});

test("after a false alarm the same level is not enough", () => {
  const gate = speechGate();
  for (let i = 0; i < 100; i++) gate.push(0.001);
  gate.wasWrong();
  gate.wasWrong();
  expect([0.01, 0.01, 0.01].some((level) => gate.push(level))).toBe(false);
  gate.reset();
  expect([0.01, 0.01, 0.01].some((level) => gate.push(level))).toBe(true);
});
