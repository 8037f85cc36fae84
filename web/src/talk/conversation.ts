/**
 * One conversation over the Realtime API: events of the server in, what to do about them out.
 *
 * Nothing here touches the browser: `send` takes events for the server, `Ear` plays and shows.
 *
 * Long because every event changes the same state: turns, the answer that is heard, and what is measured of both.
 */

import { fromBase64, pcm16Reader } from "../sound/pcm";

export interface ServerEvent {
  type: string;
  [key: string]: any;
}

export type Phase = "connecting" | "listening" | "hearing" | "thinking" | "speaking";

export interface Turn {
  id: string;
  role: "user" | "assistant";
  text: string;
  spoken: number; // characters of the text that were heard
  state: "open" | "done" | "cut" | "failed";
  note: string;
}

export interface Latency {
  text: number | null; // ms from the end of the question
  audio: number | null;
}

/** What the conversation asks of the page. */
export interface Ear {
  play(item: string, samples: Float32Array): void;
  end(item: string): void;
  flush(): Promise<{ item: string; ms: number }>;
  show(): void;
  trouble(message: string): void;
}

export interface SessionChoice {
  voice: string | null;
  handsFree: boolean;
}

interface Answer {
  item: string;
  content: number;
  receivedMs: number;
  complete: boolean; // all its audio has come
  read: (bytes: Uint8Array) => Float32Array;
}

interface Item {
  id: string;
  content?: { transcript?: string | null }[];
}

interface Response {
  id: string;
  status: string;
  status_details?: any;
  output?: Item[];
}

const BYTES_PER_MS = 48;
const MS_PER_CHARACTER = 65; // of speech that is still on its way

export type Conversation = ReturnType<typeof newConversation>;

export function newConversation(
  send: (event: ServerEvent) => void,
  ear: Ear,
  choice: SessionChoice,
  now: () => number = () => performance.now(),
) {
  let turns: Turn[] = [];
  let phase: Phase = "connecting";
  let latency: Latency = { text: null, audio: null };
  let response: string | null = null;
  let answer: Answer | null = null;
  const cut = new Set<string>(); // responses and items that nobody wants to hear any more
  let asked = 0;
  let ready = false;

  const answering = (): boolean => response !== null || answer !== null;
  const find = (id: string): Turn | undefined => turns.find((turn) => turn.id === id);
  const unwanted = (event: ServerEvent): boolean => cut.has(event.response_id) || cut.has(event.item_id);
  const tell = (type: string, fields: object = {}): void => send({ type, ...fields });

  function enter(next: Phase): void {
    phase = next;
    ear.show();
  }

  function rest(): void {
    if (phase !== "hearing" && !answering()) enter("listening");
  }

  function ask(): void {
    tell("response.create");
    enter("thinking");
  }

  /** Be silent; the server learns how much of the answer was heard. `cancel`: it does not know that it must stop. */
  async function interrupt(cancel: boolean): Promise<void> {
    const stopped = response;
    const broken = answer;
    if (stopped) cut.add(stopped);
    if (broken) cut.add(broken.item);
    response = answer = null;
    if (cancel && stopped) tell("response.cancel", { response_id: stopped });
    if (!broken) return;
    const { item, content: content_index, receivedMs } = broken;
    const heard = await ear.flush();
    const ms = heard.item === item ? Math.min(heard.ms, Math.floor(receivedMs)) : 0;
    tell("conversation.item.truncate", { item_id: item, content_index, audio_end_ms: ms });
    const turn = find(item);
    if (!turn) return;
    turn.spoken = spokenCharacters(turn.text, ms, lengthMs(turn, broken));
    turn.state = "cut";
    ear.show();
    // The server knows which word was said when; what it answers is what the model will remember.
    tell("conversation.item.retrieve", { item_id: item });
  }

  function added(item: { id: string; role?: Turn["role"]; content?: any[] }, previous: string | null): void {
    if (find(item.id) || !item.role) return;
    const text = (item.content ?? []).map((part) => part.text ?? part.transcript ?? "").join("");
    const state = item.role === "assistant" || !text ? "open" : "done";
    const place = turns.findIndex((known) => known.id === previous);
    const turn: Turn = { id: item.id, role: item.role, text, spoken: 0, state, note: "" };
    turns.splice(place < 0 ? turns.length : place + 1, 0, turn);
    ear.show();
  }

  function sound(event: ServerEvent): void {
    const item: string = event.item_id;
    if (unwanted(event)) return;
    if (answer?.item !== item) {
      answer = { item, content: event.content_index ?? 0, receivedMs: 0, complete: false, read: pcm16Reader() };
    }
    const bytes = fromBase64(event.delta);
    answer.receivedMs += bytes.length / BYTES_PER_MS;
    ear.play(item, answer.read(bytes));
  }

  function responded({ id, status, status_details, output = [] }: Response): void {
    if (response === id) response = null;
    for (const item of output) {
      const turn = find(item.id);
      if (turn?.state !== "open") continue;
      turn.state = status === "completed" ? "done" : status === "failed" ? "failed" : "cut";
      if (status === "incomplete") turn.note = "the answer is longer than the server gives";
      if (turn.state === "cut") remembered(item);
      else if (answer?.item !== turn.id) turn.spoken = turn.text.length; // an answer without sound
    }
    if (status === "failed") ear.trouble(status_details?.error?.message ?? "The server could not answer.");
    // Sound that the server never said was complete would hold the page in "speaking".
    if (!answer) rest();
    else if (!answer.complete) ear.end(answer.item);
    ear.show();
  }

  /** What the server takes to have been heard of an answer that was cut off. */
  function remembered(item: Item): void {
    const turn = find(item.id);
    const heard = item.content?.[0]?.transcript;
    if (turn?.state !== "cut" || typeof heard !== "string" || !turn.text.startsWith(heard)) return;
    turn.spoken = heard.length;
    ear.show();
  }

  function append({ item_id, delta }: ServerEvent): void {
    const turn = find(item_id);
    if (turn) turn.text += delta;
    ear.show();
  }

  function settle({ item_id, transcript = "" }: ServerEvent, note = ""): void {
    const turn = find(item_id);
    if (turn) Object.assign(turn, { text: transcript.trim(), note, state: note ? "failed" : "done" });
    ear.show();
  }

  return {
    get turns(): readonly Turn[] {
      return turns;
    },
    get phase(): Phase {
      return phase;
    },
    get latency(): Latency {
      return latency;
    },
    get ready(): boolean {
      return ready;
    },
    /** Something is being said, or will be. */
    get answering(): boolean {
      return answering();
    },
    interrupt,

    choose(next: SessionChoice): void {
      choice = next;
      if (phase !== "connecting") send(sessionUpdate(choice));
    },

    /** Push-to-talk: the button is down. */
    async press(): Promise<void> {
      await interrupt(true);
      tell("input_audio_buffer.clear");
      enter("hearing");
    },

    /** Push-to-talk: the button is up. `anything`: enough was recorded to be asked. */
    release(anything: boolean): void {
      if (anything) {
        asked = now();
        tell("input_audio_buffer.commit");
        ask();
      } else {
        tell("input_audio_buffer.clear");
        enter("listening");
      }
    },

    async type(text: string): Promise<void> {
      await interrupt(true);
      asked = now();
      tell("conversation.item.create", {
        item: { type: "message", role: "user", content: [{ type: "input_text", text }] },
      });
      ask();
    },

    /** The loudspeaker is at `ms` of an item. */
    played(item: string, ms: number): void {
      const turn = find(item);
      if (!turn || turn.state === "cut" || answer?.item !== item) return;
      turn.spoken = Math.max(turn.spoken, spokenCharacters(turn.text, ms, lengthMs(turn, answer)));
      ear.show();
    },

    startedPlaying(item: string): void {
      if (answer?.item !== item) return;
      latency.audio ??= now() - asked;
      enter("speaking");
    },

    /** The loudspeaker has played all of an item. */
    finishedPlaying(item: string): void {
      if (answer?.item !== item) return;
      const turn = find(item);
      if (turn) turn.spoken = turn.text.length;
      answer = null;
      rest();
    },

    async receive(event: ServerEvent): Promise<void> {
      switch (event.type) {
        case "session.created":
          send(sessionUpdate(choice));
          break;
        case "session.updated":
          if (!ready) enter("listening");
          ready = true;
          break;
        case "input_audio_buffer.speech_started":
          enter("hearing");
          await interrupt(false);
          break;
        case "input_audio_buffer.speech_stopped":
          asked = now();
          enter("thinking");
          break;
        case "conversation.item.added":
          added(event.item, event.previous_item_id);
          break;
        case "conversation.item.retrieved":
          remembered(event.item);
          break;
        case "conversation.item.deleted":
          turns = turns.filter((turn) => turn.id !== event.item_id);
          ear.show();
          break;
        case "conversation.item.input_audio_transcription.delta":
          append(event);
          break;
        case "conversation.item.input_audio_transcription.completed":
          settle(event);
          break;
        case "conversation.item.input_audio_transcription.failed":
          settle(event, "what you said could not be written down");
          break;
        case "response.created":
          response = event.response.id;
          latency = { text: null, audio: null };
          if (phase !== "hearing") enter("thinking");
          break;
        case "response.output_audio_transcript.delta":
        case "response.output_text.delta":
          if (unwanted(event)) break;
          latency.text ??= now() - asked;
          append(event);
          break;
        case "response.output_audio.delta":
          sound(event);
          break;
        case "response.output_audio.done":
          if (answer?.item !== event.item_id) break;
          answer!.complete = true;
          ear.end(event.item_id);
          break;
        case "response.done":
          responded(event.response);
          break;
        case "error":
          ear.trouble(event.error?.message ?? "The server reported an error.");
          if (!response && phase === "thinking") rest();
      }
    },
  };
}

export function sessionUpdate({ voice, handsFree }: SessionChoice): ServerEvent {
  const format = { type: "audio/pcm", rate: 24000 };
  return {
    type: "session.update",
    session: {
      type: "realtime",
      output_modalities: ["audio"],
      audio: {
        input: {
          format,
          transcription: { model: "default" },
          turn_detection: handsFree ? { type: "server_vad" } : null,
        },
        output: voice === null ? { format } : { format, voice },
      },
    },
  };
}

function lengthMs(turn: Turn, answer: Answer): number {
  return answer.complete ? answer.receivedMs : Math.max(answer.receivedMs, turn.text.length * MS_PER_CHARACTER);
}

/** How much of a text was said at `ms` of `total`: whole words alone. */
export function spokenCharacters(text: string, ms: number, total: number): number {
  if (ms >= total) return text.length;
  const reached = Math.floor((text.length * ms) / total);
  return text.slice(0, reached + 1).search(/\s+\S*$/) + 1 || 0;
}
