/** /v1/models and /v1/chat/completions. */

import { json } from "../dom";
import { authorization } from "./key";
import { EventReader } from "./sse";
import { refusal, sentence, Trouble, unreachable } from "./trouble";

export type Part =
  | { type: "text"; text: string }
  | { type: "input_audio"; input_audio: { data: string; format: string } };

export interface Message {
  role: "user" | "assistant";
  content: string | Part[];
}

export interface Question {
  model: string;
  messages: Message[];
  think: boolean;
  spoken: boolean;
  voice: string | null; // null: the server's
}

export type Piece =
  | { kind: "text" | "thought" | "audio" | "finish"; value: string } // finish: why
  | { kind: "usage"; tokens: number };

interface Chunk {
  error?: unknown;
  usage?: { completion_tokens?: number } | null;
  choices?: {
    finish_reason?: string | null;
    delta?: {
      content?: string | null;
      reasoning_content?: string | null;
      audio?: { transcript?: string; data?: string } | null;
    };
  }[];
}

export function requestBody(question: Question): Record<string, unknown> {
  return {
    model: question.model,
    messages: question.messages,
    stream: true,
    stream_options: { include_usage: true },
    ...(question.think ? { think: true } : {}),
    ...(question.spoken
      ? {
          modalities: ["text", "audio"],
          audio: { format: "pcm16", ...(question.voice === null ? {} : { voice: question.voice }) },
        }
      : {}),
  };
}

export async function call(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers: { ...authorization(), ...init.headers } });
  } catch (error) {
    if ((error as Error).name === "AbortError") throw error;
    throw unreachable(location.host);
  }
  if (response.ok) return response;
  throw refusal(response.status, await response.text().catch(() => ""), response.headers.get("retry-after"));
}

export async function* ask(question: Question, signal: AbortSignal): AsyncGenerator<Piece> {
  const response = await call("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: json(requestBody(question)),
    signal,
  });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventReader();
  for (;;) {
    let read: ReadableStreamReadResult<string>;
    try {
      read = await reader.read();
    } catch (error) {
      if ((error as Error).name === "AbortError") throw error;
      throw new Trouble("The connection to the server broke off before the answer was complete. Ask again.");
    }
    if (read.done) throw new Trouble("The server ended the answer before it was complete. Ask again.");
    for (const event of events.push(read.value)) {
      if (event === "[DONE]") return;
      yield* pieces(event);
    }
  }
}

export function* pieces(event: string): Generator<Piece> {
  const chunk = JSON.parse(event) as Chunk;
  if (chunk.error) throw new Trouble(sentence(event) || "The server failed in the middle of the answer.");
  for (const choice of chunk.choices ?? []) {
    const { content, reasoning_content, audio } = choice.delta ?? {};
    if (reasoning_content) yield { kind: "thought", value: reasoning_content };
    if (content) yield { kind: "text", value: content };
    if (audio?.transcript) yield { kind: "text", value: audio.transcript };
    if (audio?.data) yield { kind: "audio", value: audio.data };
    if (choice.finish_reason) yield { kind: "finish", value: choice.finish_reason };
  }
  const tokens = chunk.usage?.completion_tokens;
  if (tokens !== undefined) yield { kind: "usage", tokens };
}
