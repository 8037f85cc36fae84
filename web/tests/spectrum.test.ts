import { expect, test } from "vitest";
import { clock, format } from "../src/ask/clip";
import { melSpectrogram, peaks } from "../src/ask/spectrum";

const tone = (hz: number): Float32Array => Float32Array.from({ length: 16000 }, (_, i) => Math.sin((2 * Math.PI * hz * i) / 16000));
const mel = (hz: number): number => 2595 * Math.log10(1 + hz / 700);

test.each([200, 440, 1000, 3000, 7000])("a tone of %d Hz is brightest in its own band", (hz) => {
  const [column] = melSpectrogram(tone(hz), 1);
  const loudest = column!.indexOf(Math.max(...column!));
  expect(column![loudest]).toBe(1);
  const wanted = (mel(hz) / mel(8000)) * (column!.length + 1) - 1;
  expect(Math.abs(loudest - wanted)).toBeLessThanOrEqual(1.5);
});

test("silence is dark, and no band is ever dark for want of a bin", () => {
  expect(Math.max(...melSpectrogram(new Float32Array(1600), 4).flatMap((column) => [...column]))).toBe(0);
  let seed = 1;
  const noise = Float32Array.from({ length: 16000 }, () => (seed = (seed * 16807) % 2147483647) / 1073741823.5 - 1);
  expect(Math.min(...melSpectrogram(noise, 1)[0]!)).toBeGreaterThan(0.2);
});

test("a clip shorter than the picture is wide has a sample in every column", () => {
  const { high } = peaks(Float32Array.of(0.5, 1), 4);
  expect([...high]).toEqual([0.5, 0.5, 1, 1]);
});

test("the kind of a file is its ending, and a time is read at a look", () => {
  expect(["a.FLAC", "b.tar.mp3", "noise"].map(format)).toEqual(["flac", "mp3", "wav"]);
  expect([0.5, 75, 600].map(clock)).toEqual(["0.5 s", "1:15", "10:00"]);
});
