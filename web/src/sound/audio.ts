/** Microphone and loudspeaker of the page: one AudioContext, made at the first click that needs it. */

import { Trouble, unreachable } from "../server/trouble";
import type { CaptureMessage, PlaybackCommand, PlaybackMessage } from "./worklets";

const FLUSH_MS = 250;

let shared: Promise<AudioContext> | null = null;

async function context(): Promise<AudioContext> {
  if (!isSecureContext) throw new Trouble(insecure());
  shared ??= (async () => {
    const made = new AudioContext({ latencyHint: "interactive" });
    try {
      await made.audioWorklet.addModule("/assets/worklets.js");
    } catch {
      shared = null; // the next click tries again
      void made.close();
      throw unreachable(location.host);
    }
    return made;
  })();
  const made = await shared;
  if (made.state !== "running") await made.resume();
  return made;
}

export class Microphone {
  private constructor(
    private readonly stream: MediaStream,
    private readonly node: AudioWorkletNode,
  ) {}

  /** Throws Trouble, in words. */
  static async open(onMessage: (message: CaptureMessage) => void, onLost: () => void): Promise<Microphone> {
    if (!isSecureContext) throw new Trouble(insecure());
    let stream: MediaStream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
      });
    } catch (error) {
      throw new Trouble(microphoneTrouble((error as DOMException).name));
    }
    const audio = await context();
    const node = new AudioWorkletNode(audio, "capture", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }: MessageEvent<CaptureMessage>) => onMessage(data);
    audio.createMediaStreamSource(stream).connect(node);
    for (const track of stream.getTracks()) track.onended = onLost;
    return new Microphone(stream, node);
  }

  /** What the gate took for speech was none (`wrong`), or the answer is over (`reset`). */
  tellGate(what: "wrong" | "reset"): void {
    this.node.port.postMessage(what);
  }

  close(): void {
    this.node.disconnect();
    this.node.port.onmessage = null;
    for (const track of this.stream.getTracks()) track.stop();
  }
}

export interface Heard {
  item: string;
  ms: number;
}

export class Loudspeaker {
  onMessage: (message: PlaybackMessage) => void = () => {};
  private last: Heard = { item: "", ms: 0 };
  private flushed: ((heard: Heard) => void) | null = null;

  private constructor(
    private readonly audio: AudioContext,
    private readonly node: AudioWorkletNode,
  ) {
    node.port.onmessage = ({ data }: MessageEvent<PlaybackMessage>) => this.receive(data);
  }

  static async open(): Promise<Loudspeaker> {
    const audio = await context();
    const node = new AudioWorkletNode(audio, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    node.connect(audio.destination);
    return new Loudspeaker(audio, node);
  }

  play(item: string, samples: Float32Array): void {
    this.command({ kind: "push", item, samples });
  }

  end(item: string): void {
    this.command({ kind: "end", item });
  }

  hold(on: boolean): void {
    this.command({ kind: "hold", on });
  }

  /** Silence at once. The item that was playing, and how much of it reached the ear. */
  flush(): Promise<Heard> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.flushed?.(this.last), FLUSH_MS); // a suspended context does not answer
      this.flushed = (heard) => {
        clearTimeout(timer);
        this.flushed = null;
        resolve(heard);
      };
      this.command({ kind: "flush" });
    });
  }

  close(): void {
    this.node.disconnect();
    this.node.port.onmessage = null;
  }

  private receive(message: PlaybackMessage): void {
    if (message.kind !== "started") {
      // What was rendered is heard a little later.
      const late = this.audio.outputLatency || this.audio.baseLatency || 0;
      this.last = { item: message.item, ms: Math.max(0, Math.round((message.seconds - late) * 1000)) };
    }
    if (message.kind === "flushed") this.flushed?.(this.last);
    this.onMessage(message);
  }

  private command(command: PlaybackCommand): void {
    this.node.port.postMessage(command);
  }
}

function insecure(): string {
  return (
    `The browser gives microphone and loudspeaker only to pages over HTTPS or from this computer. Open the page as ` +
    `http://127.0.0.1:${location.port || 80} (over an SSH tunnel if the server is elsewhere), or start the server with TLS.`
  );
}

export function microphoneTrouble(name: string): string {
  switch (name) {
    case "NotAllowedError":
      return "The browser was not allowed to use the microphone. Allow it beside the address, then press Start again.";
    case "NotFoundError":
      return "There is no microphone. Plug one in, then press Start again; or type below.";
    case "NotReadableError":
      return "The microphone is in use by another program. Close that program, then press Start again.";
    default:
      return `The microphone could not be opened (${name}). Choose another one in the browser's settings.`;
  }
}
