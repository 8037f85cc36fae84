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

export interface Microphone {
  /** What the gate took for speech was none (`wrong`), or the answer is over (`reset`). */
  tellGate(what: "wrong" | "reset"): void;
  close(): void;
}

/** Throws Trouble, in words. */
export async function openMicrophone(onMessage: (message: CaptureMessage) => void, onLost: () => void): Promise<Microphone> {
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
  const { port } = node;
  port.onmessage = ({ data }: MessageEvent<CaptureMessage>) => onMessage(data);
  audio.createMediaStreamSource(stream).connect(node);
  const tracks = stream.getTracks();
  for (const track of tracks) track.onended = onLost;
  return {
    tellGate: (what) => port.postMessage(what),
    close(): void {
      node.disconnect();
      port.onmessage = null;
      for (const track of tracks) track.stop();
    },
  };
}

export interface Heard {
  item: string;
  ms: number;
}

export interface Loudspeaker {
  onMessage: (message: PlaybackMessage) => void;
  play(item: string, samples: Float32Array): void;
  end(item: string): void;
  hold(on: boolean): void;
  /** Silence at once. The item that was playing, and how much of it reached the ear. */
  flush(): Promise<Heard>;
  close(): void;
}

export async function openLoudspeaker(): Promise<Loudspeaker> {
  const audio = await context();
  const node = new AudioWorkletNode(audio, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
  const { port } = node;
  const command = (what: PlaybackCommand): void => port.postMessage(what);
  let last: Heard = { item: "", ms: 0 };
  let flushed: ((heard: Heard) => void) | null = null;
  node.connect(audio.destination);
  const made: Loudspeaker = {
    onMessage: () => {},
    play: (item, samples) => command({ kind: "push", item, samples }),
    end: (item) => command({ kind: "end", item }),
    hold: (on) => command({ kind: "hold", on }),
    flush: () =>
      new Promise((resolve) => {
        const timer = setTimeout(() => flushed?.(last), FLUSH_MS); // a suspended context does not answer
        flushed = (heard) => {
          clearTimeout(timer);
          flushed = null;
          resolve(heard);
        };
        command({ kind: "flush" });
      }),
    close(): void {
      node.disconnect();
      port.onmessage = null;
    },
  };
  port.onmessage = ({ data }: MessageEvent<PlaybackMessage>) => {
    if (data.kind !== "started") {
      // What was rendered is heard a little later.
      const late = audio.outputLatency || audio.baseLatency || 0;
      last = { item: data.item, ms: Math.max(0, Math.round((data.seconds - late) * 1000)) };
    }
    if (data.kind === "flushed") flushed?.(last);
    made.onMessage(data);
  };
  return made;
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
