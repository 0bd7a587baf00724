// Reads a pasted log: a line is a question, or JSON with a question or a chat in it.

import type { Asked, Message } from "../types";
import { messageText } from "../words";

export interface LoggedQuestion {
  asked: Asked;
  /** How often it stands in the log. */
  times: number;
  /** The first line that has it, from 1 on. */
  line: number;
}

export interface Log {
  questions: LoggedQuestion[];
  lines: number;
  /** What is wrong with lines that are no questions, one sentence each. */
  problems: string[];
}

/** Return the questions of a log, each once. */
export function readLog(text: string): Log {
  const found = new Map<string, LoggedQuestion>();
  const problems: string[] = [];
  let lines = 0;
  text.split(/\r?\n/).forEach((raw, i) => {
    const line = raw.trim();
    if (!line) return;
    lines += 1;
    const asked = questionIn(line);
    if (typeof asked === "string" ? !asked.trim() : asked === null) {
      problems.push(`Line ${i + 1} is left out: it has no question, no "prompt" and no "messages" of a user.`);
      return;
    }
    const key = JSON.stringify(asked);
    const before = found.get(key);
    if (before) before.times += 1;
    else found.set(key, { asked: asked!, times: 1, line: i + 1 });
  });
  return { questions: [...found.values()], lines, problems };
}

function questionIn(line: string): Asked | null {
  if (!/^[[{"]/.test(line)) return line;
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return /^[{[]/.test(line) ? null : line; // a question may begin with a quotation mark
  }
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return chat(value);
  const { prompt, messages } = value as { prompt?: unknown; messages?: unknown };
  if (typeof prompt === "string") return prompt;
  return Array.isArray(prompt) ? chat(prompt) : Array.isArray(messages) ? chat(messages) : null;
}

/** Return the messages up to the user's last one, as texts; null if there is none. */
function chat(messages: unknown[]): Asked | null {
  const good = messages.filter((one): one is Message => typeof (one as Message | null)?.role === "string");
  const last = good.map((one) => one.role).lastIndexOf("user");
  if (good.length < messages.length || last < 0) return null;
  const texts = good.slice(0, last + 1).map((one) => ({ role: one.role, content: messageText(one) }));
  return texts.length === 1 ? texts[0]!.content : texts;
}
