/** The page: two tabs, one server. */

import "./style.css";
import { askView } from "./ask/ask_view";
import { announce, byId, element } from "./dom";
import { call } from "./server/chat";
import { keepKey } from "./server/key";
import { Trouble } from "./server/trouble";
import { talkView } from "./talk/talk_view";

const AGAIN_MS = 3000;

let served: string | null = null;
const voices = byId<HTMLSelectElement>("voice");
const dialog = byId<HTMLDialogElement>("key");

/** The name of the model that answers. */
async function model(): Promise<string> {
  served ??= await look();
  return served;
}

async function look(): Promise<string> {
  const { data } = (await (await call("/v1/models")).json()) as { data: { id: string }[] };
  const [first] = data;
  if (!first) throw new Trouble("The server names no model.");
  byId("model").textContent = first.id;
  await listVoices().catch(() => {}); // the server speaks with its own
  return first.id;
}

async function listVoices(): Promise<void> {
  const { voices: names } = (await (await call("/v1/audio/voices")).json()) as { voices: string[] };
  voices.replaceChildren(...names.map((name, place) => element("option", { textContent: name, value: place ? name : "" })));
  voices.parentElement!.hidden = names.length < 2;
}

/** Shows an error where it happened; null takes the last one away. */
function report(error: unknown, place: "talk" | "ask"): void {
  const box = byId(`${place}-trouble`);
  box.hidden = error === null;
  if (error === null) return;
  if (!(error instanceof Trouble)) console.error(error);
  box.textContent = error instanceof Trouble ? error.message : `The page failed: ${(error as Error).message}.`;
  if (error instanceof Trouble && error.needsKey) askForKey(error.message);
}

function askForKey(why: string): void {
  byId("key-why").textContent = why;
  if (!dialog.open) dialog.showModal();
  byId<HTMLInputElement>("key-field").select();
}

async function watch(): Promise<void> {
  const status = byId("status");
  try {
    served ??= await look();
    status.textContent = "";
    status.hidden = true;
  } catch (error) {
    const trouble = error as Trouble;
    status.textContent = trouble.message;
    status.hidden = false;
    if (trouble.needsKey) askForKey(trouble.message);
    else setTimeout(() => void watch(), AGAIN_MS);
  }
}

const voice = (): string | null => voices.value || null;
const talk = talkView(model, voice, (error) => report(error, "talk"));
const ask = askView(model, voice, (error) => report(error, "ask"));
voices.onchange = talk.changed;

const tabs = ["talk", "ask"].map((name) => ({ tab: byId<HTMLButtonElement>(`${name}-tab`), panel: byId(`${name}-panel`) }));

function open(index: number, focus: boolean): void {
  tabs.forEach(({ tab, panel }, other) => {
    const chosen = other === index;
    tab.ariaSelected = String(chosen);
    tab.tabIndex = chosen ? 0 : -1;
    panel.hidden = !chosen;
    if (chosen && focus) tab.focus();
  });
  if (index === 0) ask.stop();
  else void talk.stop();
  history.replaceState(null, "", index ? "#ask" : "#talk");
}

tabs.forEach(({ tab }, index) => {
  tab.onclick = () => open(index, false);
  tab.onkeydown = ({ key }) => {
    if (key === "ArrowLeft" || key === "ArrowRight") open(1 - index, true);
  };
});

byId("key-form").onsubmit = () => {
  keepKey(byId<HTMLInputElement>("key-field").value.trim());
  announce("Key kept until this tab is closed");
  for (const place of ["talk", "ask"] as const) report(null, place);
  void watch();
};
// A file that misses the Ask tab must not replace the page.
for (const kind of ["dragover", "drop"] as const) addEventListener(kind, (event) => event.preventDefault());

open(location.hash === "#ask" ? 1 : 0, false);
void watch();
