/**
 * One conversation over the Realtime API: events of the server in, what to do about them out.
 *
 * Nothing here touches the browser: `send` takes events for the server, `Ear` plays and shows.
 */

import { fromBase64, Pcm16Reader } from "../sound/pcm";

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
  reader: Pcm16Reader;
}

const BYTES_PER_MS = 48;
const MS_PER_CHARACTER = 65; // of speech that is still on its way

export class Conversation {
  readonly turns: Turn[] = [];
  phase: Phase = "connecting";
  latency: Latency = { text: null, audio: null };
  private response: string | null = null;
  private answer: Answer | null = null;
  private readonly cut = new Set<string>(); // responses and items that nobody wants to hear any more
  private asked = 0;
  private started = false;

  constructor(
    private readonly send: (event: ServerEvent) => void,
    private readonly ear: Ear,
    private choice: SessionChoice,
    private readonly now: () => number = () => performance.now(),
  ) {}

  get ready(): boolean {
    return this.started;
  }

  /** Something is being said, or will be. */
  get answering(): boolean {
    return this.response !== null || this.answer !== null;
  }

  choose(choice: SessionChoice): void {
    this.choice = choice;
    if (this.phase !== "connecting") this.send(sessionUpdate(choice));
  }

  /** Push-to-talk: the button is down. */
  async press(): Promise<void> {
    await this.interrupt(true);
    this.send({ type: "input_audio_buffer.clear" });
    this.enter("hearing");
  }

  /** Push-to-talk: the button is up. `anything`: enough was recorded to be asked. */
  release(anything: boolean): void {
    if (!anything) {
      this.send({ type: "input_audio_buffer.clear" });
      this.enter("listening");
      return;
    }
    this.asked = this.now();
    this.send({ type: "input_audio_buffer.commit" });
    this.send({ type: "response.create" });
    this.enter("thinking");
  }

  async type(text: string): Promise<void> {
    await this.interrupt(true);
    this.asked = this.now();
    this.send({
      type: "conversation.item.create",
      item: { type: "message", role: "user", content: [{ type: "input_text", text }] },
    });
    this.send({ type: "response.create" });
    this.enter("thinking");
  }

  /** Be silent; the server learns how much of the answer was heard. `cancel`: it does not know that it must stop. */
  async interrupt(cancel: boolean): Promise<void> {
    const { response, answer } = this;
    if (response) this.cut.add(response);
    if (answer) this.cut.add(answer.item);
    this.response = this.answer = null;
    if (cancel && response) this.send({ type: "response.cancel", response_id: response });
    if (!answer) return;
    const heard = await this.ear.flush();
    const ms = heard.item === answer.item ? Math.min(heard.ms, Math.floor(answer.receivedMs)) : 0;
    this.send({
      type: "conversation.item.truncate",
      item_id: answer.item,
      content_index: answer.content,
      audio_end_ms: ms,
    });
    const turn = this.turn(answer.item);
    if (!turn) return;
    turn.spoken = spokenCharacters(turn.text, ms, lengthMs(turn, answer));
    turn.state = "cut";
    this.ear.show();
    // The server knows which word was said when; what it answers is what the model will remember.
    this.send({ type: "conversation.item.retrieve", item_id: answer.item });
  }

  /** The loudspeaker is at `ms` of an item. */
  played(item: string, ms: number): void {
    const turn = this.turn(item);
    if (!turn || turn.state === "cut" || this.answer?.item !== item) return;
    turn.spoken = Math.max(turn.spoken, spokenCharacters(turn.text, ms, lengthMs(turn, this.answer)));
    this.ear.show();
  }

  startedPlaying(item: string): void {
    if (this.answer?.item !== item) return;
    this.latency.audio ??= this.now() - this.asked;
    this.enter("speaking");
  }

  /** The loudspeaker has played all of an item. */
  finishedPlaying(item: string): void {
    if (this.answer?.item !== item) return;
    const turn = this.turn(item);
    if (turn) turn.spoken = turn.text.length;
    this.answer = null;
    this.rest();
  }

  async receive(event: ServerEvent): Promise<void> {
    switch (event.type) {
      case "session.created":
        this.send(sessionUpdate(this.choice));
        break;
      case "session.updated":
        if (!this.started) this.enter("listening");
        this.started = true;
        break;
      case "input_audio_buffer.speech_started":
        this.enter("hearing");
        await this.interrupt(false);
        break;
      case "input_audio_buffer.speech_stopped":
        this.asked = this.now();
        this.enter("thinking");
        break;
      case "input_audio_buffer.timeout_triggered":
      case "input_audio_buffer.cleared":
        break;
      case "conversation.item.added":
        this.added(event.item, event.previous_item_id);
        break;
      case "conversation.item.retrieved":
        this.remembered(event.item);
        break;
      case "conversation.item.deleted":
        this.turns.splice(0, Infinity, ...this.turns.filter((turn) => turn.id !== event.item_id));
        this.ear.show();
        break;
      case "conversation.item.input_audio_transcription.delta":
        this.append(event.item_id, event.delta);
        break;
      case "conversation.item.input_audio_transcription.completed":
        this.settle(event.item_id, event.transcript);
        break;
      case "conversation.item.input_audio_transcription.failed":
        this.settle(event.item_id, "", "what you said could not be written down");
        break;
      case "response.created":
        this.response = event.response.id;
        this.latency = { text: null, audio: null };
        if (this.phase !== "hearing") this.enter("thinking");
        break;
      case "response.output_audio_transcript.delta":
      case "response.output_text.delta":
        if (this.unwanted(event)) break;
        this.latency.text ??= this.now() - this.asked;
        this.append(event.item_id, event.delta);
        break;
      case "response.output_audio.delta":
        this.audio(event);
        break;
      case "response.output_audio.done":
        if (this.answer?.item !== event.item_id) break;
        this.answer!.complete = true;
        this.ear.end(event.item_id);
        break;
      case "response.done":
        this.responded(event.response);
        break;
      case "error":
        this.ear.trouble(event.error?.message ?? "The server reported an error.");
        if (!this.response && this.phase === "thinking") this.rest();
        break;
    }
  }

  private added(item: { id: string; role?: Turn["role"]; content?: any[] }, previous: string | null): void {
    if (this.turn(item.id) || !item.role) return;
    const text = (item.content ?? []).map((part) => part.text ?? part.transcript ?? "").join("");
    const state = item.role === "assistant" || !text ? "open" : "done";
    const turn: Turn = { id: item.id, role: item.role, text, spoken: 0, state, note: "" };
    const place = this.turns.findIndex((known) => known.id === previous);
    this.turns.splice(place < 0 ? this.turns.length : place + 1, 0, turn);
    this.ear.show();
  }

  private audio(event: ServerEvent): void {
    if (this.unwanted(event)) return;
    if (this.answer?.item !== event.item_id) {
      const reader = new Pcm16Reader();
      this.answer = {
        item: event.item_id,
        content: event.content_index ?? 0,
        receivedMs: 0,
        complete: false,
        reader,
      };
    }
    const bytes = fromBase64(event.delta);
    this.answer!.receivedMs += bytes.length / BYTES_PER_MS;
    this.ear.play(event.item_id, this.answer!.reader.push(bytes));
  }

  private responded(response: { id: string; status: string; status_details?: any; output?: any[] }): void {
    if (this.response === response.id) this.response = null;
    const ids = (response.output ?? []).map((item) => item.id as string);
    for (const turn of this.turns.filter(({ id, state }) => ids.includes(id) && state === "open")) {
      turn.state = response.status === "completed" ? "done" : response.status === "failed" ? "failed" : "cut";
      if (response.status === "incomplete") turn.note = "the answer is longer than the server gives";
      if (turn.state === "cut") this.remembered(response.output!.find(({ id }) => id === turn.id));
      else if (this.answer?.item !== turn.id) turn.spoken = turn.text.length; // an answer without sound
    }
    if (response.status === "failed") {
      this.ear.trouble(response.status_details?.error?.message ?? "The server could not answer.");
    }
    // Sound that the server never said was complete would hold the page in "speaking".
    if (this.answer && !this.answer.complete) this.ear.end(this.answer.item);
    if (!this.answer) this.rest();
    this.ear.show();
  }

  /** What the server takes to have been heard of an answer that was cut off. */
  private remembered(item: { id: string; content?: { transcript?: string | null }[] }): void {
    const turn = this.turn(item.id);
    const heard = item.content?.[0]?.transcript;
    if (turn?.state !== "cut" || typeof heard !== "string" || !turn.text.startsWith(heard)) return;
    turn.spoken = heard.length;
    this.ear.show();
  }

  private unwanted(event: ServerEvent): boolean {
    return this.cut.has(event.response_id) || this.cut.has(event.item_id);
  }

  private append(id: string, delta: string): void {
    const turn = this.turn(id);
    if (!turn) return;
    turn.text += delta;
    this.ear.show();
  }

  private settle(id: string, text: string, note = ""): void {
    const turn = this.turn(id);
    if (!turn) return;
    Object.assign(turn, { text: text.trim(), note, state: note ? "failed" : "done" });
    this.ear.show();
  }

  private turn(id: string): Turn | undefined {
    return this.turns.find((turn) => turn.id === id);
  }

  private rest(): void {
    if (this.phase !== "hearing" && !this.answering) this.enter("listening");
  }

  private enter(phase: Phase): void {
    this.phase = phase;
    this.ear.show();
  }
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
