/** The two processors of the audio thread: the microphone as 24 kHz PCM16, and the loudspeaker's queue. */

import { API_HZ, toPcm16 } from "./pcm";
import { PlaybackQueue } from "./playback_queue";
import { Resampler } from "./resampler";
import { SpeechGate } from "./speech_gate";

const SEND_SAMPLES = 0.04 * API_HZ;
const GATE_SAMPLES = 0.01 * API_HZ;
const GATE_BLOCKS = 3; // what the gate looks at: speech began no earlier
const POSITION_S = 0.05;

export type CaptureMessage =
  | { kind: "block"; pcm: Uint8Array<ArrayBuffer>; level: number }
  | { kind: "loud"; on: boolean; time: number };

export type PlaybackMessage =
  | { kind: "started"; item: string; time: number }
  | { kind: "position" | "finished" | "silent" | "flushed"; item: string; seconds: number; time: number };

export type PlaybackCommand =
  | { kind: "push"; item: string; samples: Float32Array }
  | { kind: "end"; item: string }
  | { kind: "hold"; on: boolean }
  | { kind: "flush" };

class Capture extends AudioWorkletProcessor {
  private readonly resampler = new Resampler(sampleRate, API_HZ);
  private readonly gate = new SpeechGate();
  private waiting: number[] = [];
  private gated = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }: MessageEvent<"wrong" | "reset">) =>
      data === "wrong" ? this.gate.wasWrong() : this.gate.reset();
  }

  process([channels]: Float32Array[][]): boolean {
    const first = channels?.[0];
    if (!channels || !first) return true;
    const mono = first.map((_, index) => channels.reduce((sum, one) => sum + (one[index] ?? 0), 0) / channels.length);
    for (const sample of this.resampler.push(mono)) {
      this.waiting.push(sample);
      if (this.waiting.length - this.gated >= GATE_SAMPLES) this.tellGate();
    }
    if (this.waiting.length >= SEND_SAMPLES) this.send();
    return true;
  }

  private tellGate(): void {
    if (this.gate.push(rms(this.waiting.slice(this.gated)))) {
      const time = currentTime - (GATE_BLOCKS * GATE_SAMPLES) / API_HZ;
      this.port.postMessage({ kind: "loud", on: this.gate.loud, time } satisfies CaptureMessage);
    }
    this.gated = this.waiting.length;
  }

  private send(): void {
    const pcm = toPcm16(Float32Array.from(this.waiting));
    const message: CaptureMessage = { kind: "block", pcm, level: rms(this.waiting) };
    this.port.postMessage(message, [pcm.buffer]);
    this.waiting = [];
    this.gated = 0;
  }
}

class Playback extends AudioWorkletProcessor {
  private readonly queue = new PlaybackQueue();
  private resampler = new Resampler(API_HZ, sampleRate);
  private item = "";
  private told = 0;

  constructor() {
    super();
    this.port.onmessage = ({ data }: MessageEvent<PlaybackCommand>) => this.obey(data);
  }

  private obey(command: PlaybackCommand): void {
    if (command.kind === "flush") this.queue.flush();
    else if (command.kind === "hold") this.queue.hold(command.on);
    else {
      if (command.item !== this.item) this.resampler = new Resampler(API_HZ, sampleRate);
      this.item = command.item;
      if (command.kind === "push") this.queue.push(command.item, this.resampler.push(command.samples));
      else {
        this.queue.push(command.item, this.resampler.end());
        this.queue.end(command.item);
      }
    }
  }

  process(_: Float32Array[][], [channels]: Float32Array[][]): boolean {
    const [first, ...others] = channels ?? [];
    if (!first) return true;
    for (const report of this.queue.render(first)) {
      if (report.kind === "started") this.tell({ ...report, time: currentTime });
      else this.tell({ kind: report.kind, item: report.item, seconds: report.played / sampleRate, time: currentTime });
    }
    for (const other of others) other.set(first);
    const now = this.queue.current;
    if (now && currentTime - this.told >= POSITION_S) {
      this.tell({ kind: "position", item: now.item, seconds: now.played / sampleRate, time: currentTime });
      this.told = currentTime;
    }
    return true;
  }

  private tell(message: PlaybackMessage): void {
    this.port.postMessage(message);
  }
}

function rms(samples: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < samples.length; index++) sum += (samples[index] ?? 0) ** 2;
  return Math.sqrt(sum / Math.max(1, samples.length));
}

registerProcessor("capture", Capture);
registerProcessor("playback", Playback);
