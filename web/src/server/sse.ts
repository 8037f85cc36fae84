/** The data of server-sent events, out of pieces of any size. */
export class EventReader {
  private rest = "";
  private data: string[] = [];

  push(text: string): string[] {
    const lines = (this.rest + text).split(/\r\n|\n|\r(?!$)/);
    this.rest = lines.pop() ?? "";
    const events: string[] = [];
    for (const line of lines) {
      if (line.startsWith("data:")) this.data.push(line.slice(line[5] === " " ? 6 : 5));
      if (line || !this.data.length) continue;
      events.push(this.data.join("\n"));
      this.data = [];
    }
    return events;
  }
}
