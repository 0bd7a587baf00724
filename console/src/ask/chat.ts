// The chat of the page Ask. It lives outside of the page, so that answers go on while another page is shown, and in the
// tab's storage, so that a reload keeps it.

import { useEffect, useState } from "preact/hooks";

import { ApiError, events, post, readEdit } from "../api";
import { sentence, type Session } from "../session";
import type { ErrorFacts, Message, Route, StoredEdit } from "../types";

const KEY = "meloedit.chat";
/** Turns that are kept over a reload, at most. */
const KEPT = 40;

/** Tokens of an answer, at most: a model that rambles keeps nobody waiting. */
const LONGEST = 256;

/** One of the two answers. */
export interface Side {
  text: string;
  state: "waiting" | "writing" | "done" | "stopped";
  error: string;
  /** Whether it was cut off. */
  cut?: boolean;
}

export interface Turn {
  number: number;
  /** What the model is asked: the question, behind the conversation that goes with it. */
  messages: Message[];
  edited: Side;
  base: Side;
  route: Route | null;
  routeError: string;
  /** The edits that the route names, as they were then. */
  edits: Record<string, StoredEdit>;
  /** What was done about this turn. */
  done: string;
}

interface Chunk {
  choices?: { delta?: { content?: string }; text?: string; finish_reason: string | null }[];
  error?: ErrorFacts;
}

let turns: Turn[] = restored();
const running = new Map<number, AbortController>();
const listeners = new Set<() => void>();

function restored(): Turn[] {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "[]") as Turn[];
    const over = (side: Side): Side => (side.state === "done" ? side : { ...side, state: "stopped" });
    return kept.map((turn) => ({ ...turn, edited: over(turn.edited), base: over(turn.base) }));
  } catch {
    return [];
  }
}

let keeping: ReturnType<typeof setTimeout> | undefined;

function set(next: Turn[]): void {
  turns = next;
  keeping ??= setTimeout(keep, 300);
  for (const listener of listeners) listener();
}

function keep(): void {
  keeping = undefined;
  try {
    sessionStorage.setItem(KEY, JSON.stringify(turns.slice(-KEPT)));
  } catch {
    sessionStorage.removeItem(KEY); // it is full: the chat goes on without it
  }
}

function change(number: number, part: (turn: Turn) => Partial<Turn>): void {
  set(turns.map((turn) => (turn.number === number ? { ...turn, ...part(turn) } : turn)));
}

/** Return the turns, and follow them. */
export function useChat(): Turn[] {
  const [, look] = useState({});
  useEffect(() => {
    const listener = () => look({});
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return turns;
}

const WAITING: Side = { text: "", state: "waiting", error: "" };

/** What is asked, and what may be. */
export type Asking = Pick<Session, "model" | "mayEdit" | "store">;

/** Ask a question, by itself or as the next one of the conversation. */
export function ask(session: Asking, question: string, conversation = false): void {
  const before = conversation
    ? turns.flatMap((turn) => [
        turn.messages[turn.messages.length - 1]!,
        { role: "assistant", content: turn.edited.text },
      ])
    : [];
  const number = (turns[turns.length - 1]?.number ?? 0) + 1;
  const messages = [...before, { role: "user", content: question }];
  set([
    ...turns,
    { number, messages, edited: WAITING, base: WAITING, route: null, routeError: "", edits: {}, done: "" },
  ]);
  run(session, number, messages);
}

/** Ask a turn's question again, after something was changed; `done` says what. */
export function again(session: Asking, turn: Turn, done: string): void {
  running.get(turn.number)?.abort();
  const withBase = turn.base.state !== "done";
  const base = withBase ? WAITING : turn.base;
  change(turn.number, () => ({ edited: WAITING, base, route: null, routeError: "", done }));
  run(session, turn.number, turn.messages, withBase);
}

export function stop(number: number): void {
  running.get(number)?.abort();
}

export function startOver(): void {
  for (const leaving of running.values()) leaving.abort();
  set([]);
}

/** Return whether it is known how a question was answered, though the original model may still answer. */
export function isAnswered(turn: Turn): boolean {
  const whole = turn.edited.state === "done" || turn.edited.state === "stopped";
  return whole && (turn.route !== null || turn.routeError !== "" || !isRunning(turn));
}

export function isRunning(turn: Turn): boolean {
  return [turn.edited, turn.base].some((side) => side.state === "waiting" || side.state === "writing");
}

function run(session: Asking, number: number, messages: Message[], withBase = true): void {
  const { model, mayEdit } = session;
  const raw = session.store?.form === "raw";
  const leaving = new AbortController();
  running.set(number, leaving);
  const parts = [
    answer(model, raw, number, "edited", messages, leaving.signal),
    ...(withBase ? [answer(`${model}:base`, raw, number, "base", messages, leaving.signal)] : []),
    ...(mayEdit ? [explain(number, messages)] : []),
  ];
  void Promise.all(parts).finally(() => running.get(number) === leaving && running.delete(number));
}

async function answer(
  model: string,
  raw: boolean,
  number: number,
  name: "edited" | "base",
  messages: Message[],
  signal: AbortSignal,
): Promise<void> {
  const update = (part: Partial<Side>) =>
    !signal.aborted && change(number, (turn) => ({ [name]: { ...turn[name], ...part } }));
  signal.addEventListener("abort", () => {
    change(number, (turn) => (turn[name].state === "done" ? {} : { [name]: { ...turn[name], state: "stopped" } }));
  });
  try {
    let text = "";
    let cut = false;
    for await (const chunk of chunks(model, raw, messages, signal)) {
      if (chunk.error) throw new Error(chunk.error.message);
      const choice = chunk.choices?.[0];
      text += choice?.delta?.content ?? choice?.text ?? "";
      cut ||= choice?.finish_reason === "length";
      update({ text, state: "writing" });
    }
    update({ cut, state: "done" });
  } catch (error) {
    update({ error: sentence(error), state: "done" });
  }
}

async function* chunks(model: string, raw: boolean, messages: Message[], signal: AbortSignal): AsyncGenerator<Chunk> {
  const body = { model, stream: true, ...(raw ? { prompt: asked(messages) } : { messages }) };
  const path = raw ? "v1/completions" : "v1/chat/completions";
  try {
    yield* events<Chunk>("POST", path, { body: { ...body, max_tokens: LONGEST }, signal });
  } catch (error) {
    if (!(error instanceof ApiError && error.param === "max_tokens")) throw error;
    yield* events<Chunk>("POST", path, { body, signal }); // the server makes shorter ones
  }
}

async function explain(number: number, messages: Message[]): Promise<void> {
  try {
    const route = await post<Route>("v1/route", { prompt: asked(messages) });
    const ids = new Set([route.nearest, ...(route.evidence?.candidates.map(([id]) => id) ?? [])]);
    const found = await Promise.all(
      [...ids].filter((id) => id !== null).map((id) => readEdit(id).catch(() => null)),
    );
    const edits = Object.fromEntries(found.filter((edit) => edit !== null).map((edit) => [edit.id, edit]));
    change(number, () => ({ route, edits, routeError: "" }));
  } catch (error) {
    change(number, () => ({ routeError: sentence(error) }));
  }
}

/** Return a question as the endpoints of edits take it: a text where nothing stands before it. */
export function asked(messages: Message[]): string | Message[] {
  const [only] = messages;
  return messages.length === 1 && typeof only!.content === "string" ? only!.content : messages;
}
