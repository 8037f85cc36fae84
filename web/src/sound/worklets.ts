/** The two processors of the audio thread: the microphone as 24 kHz PCM16, and the loudspeaker's queue. */

import { API_HZ, toPcm16 } from "./pcm";
import { playbackQueue } from "./playback_queue";
import { newResampler, type Resampler } from "./resampler";
import { speechGate } from "./speech_gate";

const SEND_SAMPLES = 0.04 * API_HZ;
const GATE_SAMPLES = 0.01 * API_HZ;
const GATE_BLOCKS = 3; // what the gate looks at: speech began no earlier
const POSITION_S = 0.05;

export type CaptureMessage =
  | { kind: "block"; pcm: Uint8Array<ArrayBuffer>; level: number }
  | { kind: "loud"; on: boolean; time: number };

/** `seconds`: how much of the item was played. */
export interface PlaybackMessage {
  kind: "started" | "position" | "finished" | "silent" | "flushed";
  item: string;
  seconds: number;
  time: number;
}

export type PlaybackCommand =
  | { kind: "push"; item: string; samples: Float32Array }
  | { kind: "end"; item: string }
  | { kind: "hold"; on: boolean }
  | { kind: "flush" };

/** A processor of the audio thread, which runs what `make` returns for every block. */
function processor(make: (port: MessagePort) => (input: Float32Array[], output: Float32Array[]) => void) {
  return class extends AudioWorkletProcessor {
    private readonly render = make(this.port);

    process([input]: Float32Array[][], [output]: Float32Array[][]): boolean {
      this.render(input ?? [], output ?? []);
      return true;
    }
  };
}

function capture(port: MessagePort) {
  const resampler = newResampler(sampleRate, API_HZ);
  const gate = speechGate();
  let waiting: number[] = [];
  let gated = 0;

  const tell = (message: CaptureMessage, ...moved: Transferable[]): void => port.postMessage(message, moved);

  function look(): void {
    if (gate.push(rms(waiting.slice(gated)))) {
      tell({ kind: "loud", on: gate.loud, time: currentTime - (GATE_BLOCKS * GATE_SAMPLES) / API_HZ });
    }
    gated = waiting.length;
  }

  port.onmessage = ({ data }: MessageEvent<"wrong" | "reset">) => (data === "wrong" ? gate.wasWrong() : gate.reset());

  return (channels: Float32Array[]): void => {
    const mono = channels[0]?.map((_, index) => channels.reduce((sum, one) => sum + (one[index] ?? 0), 0) / channels.length);
    if (!mono) return;
    for (const sample of resampler.push(mono)) {
      waiting.push(sample);
      if (waiting.length - gated >= GATE_SAMPLES) look();
    }
    if (waiting.length < SEND_SAMPLES) return;
    const pcm = toPcm16(waiting);
    tell({ kind: "block", pcm, level: rms(waiting) }, pcm.buffer);
    waiting = [];
    gated = 0;
  };
}

function playback(port: MessagePort) {
  const queue = playbackQueue();
  let resampler: Resampler;
  let playing = "";
  let told = 0;

  function tell(kind: PlaybackMessage["kind"], item: string, played = 0): void {
    port.postMessage({ kind, item, seconds: played / sampleRate, time: currentTime } satisfies PlaybackMessage);
  }

  port.onmessage = ({ data: command }: MessageEvent<PlaybackCommand>) => {
    if (command.kind === "flush") return queue.flush();
    if (command.kind === "hold") return queue.hold(command.on);
    const { item } = command;
    if (item !== playing) resampler = newResampler(API_HZ, sampleRate);
    playing = item;
    queue.push(item, command.kind === "push" ? resampler.push(command.samples) : resampler.end());
    if (command.kind === "end") queue.end(item);
  };

  return (_: Float32Array[], [first, ...others]: Float32Array[]): void => {
    if (!first) return;
    for (const report of queue.render(first)) {
      tell(report.kind, report.item, report.kind === "started" ? 0 : report.played);
    }
    for (const other of others) other.set(first);
    const now = queue.current;
    if (now && currentTime - told >= POSITION_S) {
      tell("position", now.item, now.played);
      told = currentTime;
    }
  };
}

function rms(samples: number[]): number {
  return Math.sqrt(samples.reduce((sum, sample) => sum + sample ** 2, 0) / Math.max(1, samples.length));
}

registerProcessor("capture", processor(capture));
registerProcessor("playback", processor(playback));
