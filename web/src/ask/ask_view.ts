/** The Ask tab: clips, a question, the answer as it is written and spoken. */

import { announce, button, byId, element, milliseconds } from "../dom";
import { ask, type Message, type Part } from "../server/chat";
import { apiKey } from "../server/key";
import { asCurl, asPython, type Shown } from "../server/snippets";
import { Trouble } from "../server/trouble";
import { Loudspeaker } from "../sound/audio";
import { fromBase64, Pcm16Reader } from "../sound/pcm";
import { Clip, format } from "./clip";

export class AskView {
  private readonly field = byId<HTMLTextAreaElement>("question");
  private readonly send = byId<HTMLButtonElement>("ask-button");
  private readonly think = byId<HTMLInputElement>("think");
  private readonly speak = byId<HTMLInputElement>("speak");
  private clips: Clip[] = [];
  private asked: { clips: Clip[]; question: string; answer: string }[] = [];
  private running: AbortController | null = null;
  private loudspeaker: Loudspeaker | null = null;

  constructor(
    private readonly model: () => Promise<string>,
    private readonly voice: () => string | null,
    private readonly report: (error: unknown, place: "ask") => void,
  ) {
    const files = byId<HTMLInputElement>("files");
    byId("choose").onclick = () => files.click();
    files.onchange = () => {
      void this.add([...(files.files ?? [])]);
      files.value = "";
    };
    this.send.onclick = () => void (this.running ? this.stop() : this.ask());
    this.field.onkeydown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      void this.ask();
    };
    byId("again").onclick = () => this.reset();
    this.acceptDrops();
  }

  stop(): void {
    this.running?.abort();
    void this.loudspeaker?.flush();
  }

  async add(files: File[]): Promise<void> {
    this.report(null, "ask");
    const added = files.map((file) => {
      const clip: Clip = new Clip(file, () => this.remove(clip));
      this.clips.push(clip);
      byId("clips").append(clip.card);
      return clip;
    });
    if (added.length) announce(`${added.length === 1 ? added[0]!.file.name : `${added.length} files`} added`);
    for (const clip of added) {
      try {
        await clip.draw();
      } catch (error) {
        this.remove(clip);
        this.report(error, "ask");
      }
    }
  }

  private remove(clip: Clip): void {
    this.clips = this.clips.filter((other) => other !== clip);
    clip.dispose();
    byId("choose").focus();
  }

  private reset(): void {
    this.stop();
    for (const { clips } of this.asked) for (const clip of clips) clip.dispose();
    this.asked = [];
    byId("answers").replaceChildren();
    byId("again").hidden = true;
    this.field.focus();
  }

  private acceptDrops(): void {
    const zone = byId("ask-panel");
    zone.ondragover = (event) => {
      event.preventDefault();
      zone.classList.add("over");
    };
    zone.ondragleave = (event) => {
      if (!zone.contains(event.relatedTarget as Node | null)) zone.classList.remove("over");
    };
    zone.ondrop = (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      void this.add([...(event.dataTransfer?.files ?? [])]);
    };
  }

  private async ask(): Promise<void> {
    const question = this.field.value.trim();
    if (this.running) return;
    if (!question && !this.clips.length) {
      this.report(new Trouble("Write a question, or add a clip that asks one."), "ask");
      this.field.focus();
      return;
    }
    this.report(null, "ask");
    this.running = new AbortController();
    this.send.textContent = "Stop";
    const turn = { clips: this.clips, question, answer: "" };
    const row = new AnswerRow(turn.clips, question);
    try {
      if (this.speak.checked) this.loudspeaker ??= await Loudspeaker.open();
      await this.loudspeaker?.flush();
      turn.answer = await this.stream(turn.clips, question, row);
      this.asked.push(turn);
      this.clips = [];
      row.keep(turn.clips);
      this.field.value = "";
      byId("again").hidden = false;
    } catch (error) {
      row.failed((error as Error).name === "AbortError");
      if ((error as Error).name !== "AbortError") this.report(this.named(error), "ask");
    } finally {
      this.running = null;
      this.send.textContent = "Ask";
    }
  }

  /** The server numbers the clips of a request; whoever dropped them knows their names. */
  private named(error: unknown): unknown {
    if (!(error instanceof Trouble)) return error;
    const clips = [...this.asked.flatMap((turn) => turn.clips), ...this.clips];
    const message = error.message.replace(/\baudio\[(\d+)\]/g, (whole, place) => clips[Number(place)]?.file.name ?? whole);
    return new Trouble(message, error.needsKey);
  }

  private async stream(clips: Clip[], question: string, row: AnswerRow): Promise<string> {
    const model = await this.model();
    const spoken = this.speak.checked;
    const voice = this.voice();
    const think = this.think.checked;
    const messages: Message[] = [];
    for (const earlier of this.asked) {
      messages.push(await userMessage(earlier.clips, earlier.question), { role: "assistant", content: earlier.answer });
    }
    messages.push(await userMessage(clips, question));
    row.offer({
      url: location.origin,
      model,
      files: clips.map(({ file }) => ({ name: file.name, format: format(file.name) })),
      question,
      think,
      voice: spoken ? (voice ?? "alloy") : null, // OpenAI's clients want a name; this one means the server's own
      needsKey: apiKey() !== "",
    });
    row.begin();
    const samples = new Pcm16Reader();
    const item = crypto.randomUUID?.() ?? String(Math.random());
    if (this.loudspeaker) this.loudspeaker.onMessage = ({ kind, ...at }) => kind === "started" && at.item === item && row.sounded();
    for await (const piece of ask({ model, messages, think, spoken, voice }, this.running!.signal)) {
      if (piece.kind === "text") row.write(piece.value);
      else if (piece.kind === "thought") row.thought(piece.value);
      else if (piece.kind === "audio") this.loudspeaker?.play(item, samples.push(fromBase64(piece.value)));
      else if (piece.kind === "finish") row.finish(piece.reason);
      else if (piece.kind === "usage") row.counted(piece.tokens);
    }
    this.loudspeaker?.end(item);
    row.complete();
    return row.text;
  }
}

async function userMessage(clips: Clip[], question: string): Promise<Message> {
  const parts: Part[] = [];
  for (const clip of clips) parts.push({ type: "input_audio", input_audio: await clip.part() });
  if (question) parts.push({ type: "text", text: question });
  return { role: "user", content: parts };
}

/** One question and its answer on the page. */
class AnswerRow {
  text = "";
  private readonly words = element("p", { className: "words" });
  private readonly thoughts = element("details", { hidden: true }, element("summary", { textContent: "Thoughts" }));
  private readonly reasoning = element("p");
  private readonly clips = element("ul", { className: "clips" });
  private readonly line = element("p", { className: "figures" });
  private readonly tools = element("div", { className: "line tools" });
  private readonly row = element("li", { className: "answer", ariaBusy: "true" });
  private readonly figures: Record<string, string> = {};
  private since = 0;

  constructor(clips: Clip[], question: string) {
    const names = clips.map(({ file }) => file.name).join(", ");
    this.thoughts.append(this.reasoning);
    const asked = element("p", { className: "asked", textContent: [question, names && `(${names})`].filter(Boolean).join(" ") });
    this.row.append(this.clips, asked, this.thoughts, this.words, this.line, this.tools);
    byId("answers").append(this.row);
    this.row.scrollIntoView({ block: "nearest" });
  }

  begin(): void {
    this.since = performance.now();
  }

  keep(clips: Clip[]): void {
    for (const { card } of clips) {
      card.querySelector(".line button:last-of-type")?.remove();
      this.clips.append(card);
    }
  }

  offer(shown: Shown): void {
    for (const [name, text] of [["curl", asCurl(shown)], ["Python", asPython(shown)]] as const) {
      const made = button(`Copy as ${name}`, () => void copy(text, made));
      this.tools.append(made);
    }
  }

  write(delta: string): void {
    this.first("first text");
    this.text += delta;
    this.words.textContent = this.text;
  }

  thought(delta: string): void {
    this.first("first thought");
    this.thoughts.hidden = false;
    this.thoughts.open ||= !this.text && !this.reasoning.textContent;
    this.reasoning.textContent += delta;
  }

  sounded(): void {
    this.first("first sound");
  }

  counted(tokens: number): void {
    this.figures.tokens = `${tokens} token${tokens === 1 ? "" : "s"}`;
    this.draw();
  }

  finish(reason: string): void {
    if (reason === "length") this.figures.end = "cut off at the longest answer that the server gives";
    this.draw();
  }

  complete(): void {
    if (!this.text) this.words.textContent = "(an empty answer)";
    this.row.ariaBusy = "false";
    announce(this.words.textContent ?? "");
  }

  failed(stopped: boolean): void {
    this.row.ariaBusy = "false";
    if (!this.text && !stopped) this.row.remove();
    else this.figures.end = stopped ? "stopped" : "broken off";
    this.draw();
  }

  private first(name: string): void {
    if (this.figures[name]) return;
    this.figures[name] = `${name} ${milliseconds(performance.now() - this.since)}`;
    this.draw();
  }

  private draw(): void {
    this.line.textContent = Object.values(this.figures).join(" · ");
  }
}

async function copy(text: string, from: HTMLButtonElement): Promise<void> {
  const label = from.textContent;
  try {
    await navigator.clipboard.writeText(text);
    from.textContent = "Copied";
    announce("Copied");
  } catch {
    // Not over plain HTTP from another machine: shown, to be selected by hand.
    const box = element("textarea", { className: "snippet", value: text, readOnly: true, ariaLabel: label ?? "" });
    from.parentElement?.after(box);
    box.select();
    return;
  }
  setTimeout(() => (from.textContent = label), 1500);
}
