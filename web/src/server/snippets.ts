/** The same question for a terminal and for a program. */

import { json } from "../dom";

export interface Shown {
  url: string; // https://host:port
  model: string;
  files: { name: string; format: string }[];
  question: string;
  think: boolean;
  voice: string | null;
  needsKey: boolean;
}

export function asCurl(shown: Shown): string {
  const parts = shown.files.map(
    ({ name, format }) =>
      `{"type": "input_audio", "input_audio": {"format": "${format}", "data": "'"$(base64 -w0 ${quoted(name)})"'"}}`,
  );
  const text = json({ type: "text", text: shown.question }).replaceAll("'", "'\\''");
  const options = json(extras(shown)).slice(1, -1);
  return [
    // printf is part of the shell: a clip may be longer than a command line may be.
    `printf %s '{"model": ${json(shown.model)}${options ? `, ${options}` : ""}, "messages": [{"role": "user", "content": [`,
    ...[...parts, text].map((part, index) => `  ${part}${index < parts.length ? "," : ""}`),
    `]}]}' |`,
    `  curl --silent --data @- --header 'content-type: application/json'${shown.needsKey ? ` --header "authorization: Bearer $API_KEY"` : ""} ${shown.url}/v1/chat/completions`,
  ].join("\n");
}

export function asPython(shown: Shown): string {
  const { think, ...known } = extras(shown);
  const lines = Object.entries(known).map(([name, value]) => `    ${name}=${json(value)},`);
  if (think) lines.push(`    extra_body={"think": True},`);
  return [
    `import base64, os`,
    `from pathlib import Path`,
    ``,
    `from openai import OpenAI  # pip install openai`,
    ``,
    `def clip(path, format):`,
    `    data = base64.b64encode(Path(path).read_bytes()).decode()`,
    `    return {"type": "input_audio", "input_audio": {"data": data, "format": format}}`,
    ``,
    `client = OpenAI(base_url=${json(`${shown.url}/v1`)}, api_key=os.environ.get("API_KEY", "none"))`,
    `answer = client.chat.completions.create(`,
    `    model=${json(shown.model)},`,
    `    messages=[{"role": "user", "content": [`,
    ...shown.files.map(({ name, format }) => `        clip(${json(name)}, ${json(format)}),`),
    `        {"type": "text", "text": ${json(shown.question)}},`,
    `    ]}],`,
    ...lines,
    `)`,
    ...(shown.voice === null
      ? [`print(answer.choices[0].message.content)`]
      : [
          `spoken = answer.choices[0].message.audio`,
          `print(spoken.transcript)`,
          `Path("answer.wav").write_bytes(base64.b64decode(spoken.data))`,
        ]),
  ].join("\n");
}

function extras(shown: Shown): Record<string, unknown> {
  return {
    ...(shown.think ? { think: true } : {}),
    ...(shown.voice === null ? {} : { modalities: ["text", "audio"], audio: { voice: shown.voice, format: "wav" } }),
  };
}

function quoted(name: string): string {
  return /^[\w./-]+$/.test(name) && !name.startsWith("-") ? name : `'${name.replaceAll("'", "'\\''")}'`;
}
