// Words for what the API returns: texts of prompts, counts, times, shares.

import type { Asked, Message } from "./types";

/** Return what a message says, as text. */
export function messageText(message: Message): string {
  const { content } = message;
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content
    .map((part: unknown) => (typeof part === "string" ? part : String((part as { text?: unknown })?.text ?? "")))
    .join("\n");
}

/** Return the question itself: of a chat, the last turn of the user. */
export function questionOf(asked: Asked): string {
  if (typeof asked === "string") return asked;
  const turns = asked.filter((message) => message.role === "user");
  const last = turns[turns.length - 1] ?? asked[asked.length - 1];
  return last ? messageText(last) : "";
}

/** Return how many messages stand before the question. */
export function turnsBefore(asked: Asked): number {
  return typeof asked === "string" ? 0 : Math.max(0, asked.length - 1);
}

/** Return whether two questions are the same, messages and all. */
export function same(one: Asked, other: Asked): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

export function counted(number: number, noun: string, plural = `${noun}s`): string {
  return `${number.toLocaleString("en")} ${number === 1 ? noun : plural}`;
}

export function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Return a probability as a whole number of per cent; never 0 % or 100 % where it is not. */
export function percent(share: number): string {
  const rounded = Math.round(share * 100);
  if (rounded === 0 && share > 0) return "below 1%";
  if (rounded === 100 && share < 1) return "above 99%";
  return `${rounded}%`;
}

const STEPS: [number, Intl.RelativeTimeFormatUnit][] = [
  [60, "second"],
  [3600, "minute"],
  [86_400, "hour"],
  [86_400 * 30, "day"],
];
const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

/** Return how long ago a time was (in milliseconds since 1970). */
export function since(time: number, now = Date.now()): string {
  const seconds = Math.max(0, (now - time) / 1000);
  if (seconds < 45) return "just now";
  let unit = 1;
  for (const [until, name] of STEPS) {
    if (seconds < until) return ago.format(-Math.round(seconds / unit), name);
    unit = until;
  }
  return new Date(time).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
}

export function dated(time: number): string {
  return new Date(time).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" });
}
