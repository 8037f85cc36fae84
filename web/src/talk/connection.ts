/** The WebSocket of a conversation. */

import { json } from "../dom";
import { call } from "../server/chat";
import { apiKey } from "../server/key";
import { Trouble, unreachable } from "../server/trouble";
import type { ServerEvent } from "./conversation";

const OPEN_MS = 10_000;
const BACKLOG_BYTES = 1_000_000; // twenty seconds of speech that the network has not taken

export interface Connection {
  send(event: ServerEvent): void;
  /** The network does not keep up: sound is better dropped than late. */
  late(): boolean;
  close(): void;
}

/** Throws Trouble, in words. `onClose` gets why, unless this side closed. */
export async function connect(
  model: string,
  onEvent: (event: ServerEvent) => void,
  onClose: (why: string) => void,
): Promise<Connection> {
  const address = `${location.origin.replace(/^http/, "ws")}/v1/realtime?model=${encodeURIComponent(model)}`;
  const key = apiKey();
  const socket = new WebSocket(address, key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"]);
  const opened = await new Promise<boolean>((resolve) => {
    socket.onopen = () => resolve(true);
    socket.onclose = socket.onerror = () => resolve(false);
    setTimeout(() => resolve(false), OPEN_MS);
  });
  if (!opened) {
    socket.close();
    throw await whyRefused();
  }
  socket.onerror = null;
  socket.onmessage = ({ data }: MessageEvent<string>) => onEvent(JSON.parse(data) as ServerEvent);
  socket.onclose = ({ code, reason }) => onClose(closeReason(code, reason));
  return {
    send(event): void {
      if (socket.readyState === WebSocket.OPEN) socket.send(json(event));
    },
    late: () => socket.bufferedAmount > BACKLOG_BYTES,
    close(): void {
      socket.onclose = null;
      socket.close(1000);
    },
  };
}

/** A browser does not tell a page why a WebSocket was refused; the same question over HTTP does. */
async function whyRefused(): Promise<Trouble> {
  try {
    await call("/v1/realtime", { method: "POST", body: "{}", headers: { "content-type": "application/json" } });
  } catch (error) {
    const trouble = error as Trouble;
    const plain = /not served|not found|method/i.test(trouble.message);
    if (!plain) return trouble;
  }
  const models = await fetch("/v1/models").catch(() => null);
  if (!models) return unreachable(location.host);
  return new Trouble("The server refused to talk. It may have no room for another conversation; try again in a moment.");
}

export function closeReason(code: number, reason: string): string {
  switch (code) {
    case 1000:
      return reason ? `The server ended the conversation: ${reason}.` : "The server ended the conversation.";
    case 1001:
      return `The server is stopping${reason ? ` (${reason})` : ""}. Press Start when it is back.`;
    case 1008:
    case 4000:
      return `The server closed the conversation${reason ? `: ${reason}` : ""}. Press Start for a new one.`;
    case 1013:
      return "The server has no room for another conversation. Try again in a moment.";
    default:
      return `The connection to the server was lost${reason ? `: ${reason}` : ""}. Press Start to begin again.`;
  }
}
