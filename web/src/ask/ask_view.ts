/** The Ask tab: clips, a question, the answer as it is written and spoken. */

import { announce, byId } from "../dom";
import { ask, type Message, type Part } from "../server/chat";
import { apiKey } from "../server/key";
import { Trouble } from "../server/trouble";
import { type Loudspeaker, openLoudspeaker } from "../sound/audio";
import { fromBase64, pcm16Reader } from "../sound/pcm";
import { type AnswerRow, answerRow } from "./answer_row";
import { type Clip, format, newClip } from "./clip";

interface Asked {
  clips: Clip[];
  question: string;
  answer: string;
}

/** `stop` ends the answer that is being given. */
export function askView(
  model: () => Promise<string>,
  voice: () => string | null,
  report: (error: unknown) => void,
): { stop(): void } {
  const field = byId<HTMLTextAreaElement>("question");
  const send = byId<HTMLButtonElement>("ask-button");
  const think = byId<HTMLInputElement>("think");
  const speak = byId<HTMLInputElement>("speak");
  const files = byId<HTMLInputElement>("files");
  const choose = byId("choose");
  const again = byId("again");
  const zone = byId("ask-panel");
  let clips: Clip[] = [];
  let earlier: Asked[] = [];
  let running: AbortController | null = null;
  let loudspeaker: Loudspeaker | null = null;

  function stop(): void {
    running?.abort();
    void loudspeaker?.flush();
  }

  async function add(dropped: Iterable<File>): Promise<void> {
    report(null);
    const added = [...dropped].map((file) => {
      const clip: Clip = newClip(file, () => remove(clip));
      clips.push(clip);
      byId("clips").append(clip.card);
      return clip;
    });
    if (added.length) announce(`${added.length === 1 ? added[0]!.file.name : `${added.length} files`} added`);
    for (const clip of added) {
      try {
        await clip.draw();
      } catch (error) {
        remove(clip);
        report(error);
      }
    }
  }

  function remove(clip: Clip): void {
    clips = clips.filter((other) => other !== clip);
    clip.dispose();
    choose.focus();
  }

  async function begin(): Promise<void> {
    const question = field.value.trim();
    if (running) return;
    if (!question && !clips.length) {
      report(new Trouble("Write a question, or add a clip that asks one."));
      field.focus();
      return;
    }
    report(null);
    running = new AbortController();
    send.textContent = "Stop";
    const turn = { clips, question, answer: "" };
    const row = answerRow(clips, question);
    try {
      if (speak.checked) loudspeaker ??= await openLoudspeaker();
      await loudspeaker?.flush();
      turn.answer = await stream(turn, row, running.signal);
      earlier.push(turn);
      clips = [];
      row.keep(turn.clips);
      field.value = "";
      again.hidden = false;
    } catch (error) {
      const stopped = (error as Error).name === "AbortError";
      row.failed(stopped);
      if (!stopped) report(named(error));
    } finally {
      running = null;
      send.textContent = "Ask";
    }
  }

  /** The server numbers the clips of a request; whoever dropped them knows their names. */
  function named(error: unknown): unknown {
    if (!(error instanceof Trouble)) return error;
    const all = [...earlier.flatMap((turn) => turn.clips), ...clips];
    const message = error.message.replace(/\baudio\[(\d+)\]/g, (whole, place) => all[place]?.file.name ?? whole);
    return new Trouble(message, error.needsKey);
  }

  async function stream(turn: Asked, row: AnswerRow, signal: AbortSignal): Promise<string> {
    const spoken = speak.checked;
    const question = {
      model: await model(),
      messages: [] as Message[],
      think: think.checked,
      spoken,
      voice: voice(),
    };
    for (const { clips, question: asked, answer } of earlier) {
      question.messages.push(await userMessage(clips, asked), { role: "assistant", content: answer });
    }
    question.messages.push(await userMessage(turn.clips, turn.question));
    row.offer({
      url: location.origin,
      model: question.model,
      files: turn.clips.map(({ file: { name } }) => ({ name, format: format(name) })),
      question: turn.question,
      think: question.think,
      voice: spoken ? (question.voice ?? "alloy") : null, // OpenAI's clients want a name; this one means the server's own
      needsKey: apiKey() !== "",
    });
    row.begin();
    const samples = pcm16Reader();
    const item = crypto.randomUUID?.() ?? String(Math.random());
    if (loudspeaker) loudspeaker.onMessage = ({ kind, ...at }) => kind === "started" && at.item === item && row.sounded();
    for await (const piece of ask(question, signal)) {
      if (piece.kind === "audio") loudspeaker?.play(item, samples(fromBase64(piece.value)));
      else row.take(piece);
    }
    loudspeaker?.end(item);
    return row.complete();
  }

  choose.onclick = () => files.click();
  files.onchange = () => {
    void add(files.files ?? []);
    files.value = "";
  };
  send.onclick = () => void (running ? stop() : begin());
  field.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    void begin();
  };
  again.onclick = () => {
    stop();
    for (const { clips } of earlier) for (const clip of clips) clip.dispose();
    earlier = [];
    byId("answers").replaceChildren();
    again.hidden = true;
    field.focus();
  };
  // main.ts keeps the browser from opening what is dropped.
  zone.ondragover = () => zone.classList.add("over");
  zone.ondragleave = (event) => {
    if (!zone.contains(event.relatedTarget as Node | null)) zone.classList.remove("over");
  };
  zone.ondrop = (event) => {
    zone.classList.remove("over");
    void add(event.dataTransfer?.files ?? []);
  };
  return { stop };
}

async function userMessage(clips: Clip[], text: string): Promise<Message> {
  const content: Part[] = [];
  for (const clip of clips) content.push({ type: "input_audio", input_audio: await clip.part() });
  if (text) content.push({ type: "text", text });
  return { role: "user", content };
}
