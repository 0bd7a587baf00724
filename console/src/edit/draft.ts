// The edit that is being written on the page New edit. It stays in the tab's storage until it is saved or cleared.

import { useEffect, useState } from "preact/hooks";

import type { Asked, Message, StoredEdit } from "../types";
import { counted, messageText, questionOf } from "../words";

const KEY = "meloedit.draft";

export interface Draft {
  /** Messages before the question, if it belongs to a conversation. */
  before: Message[];
  prompt: string;
  target: string;
  variants: string[];
  quiet: string[];
  /** Its name; empty: one is made. */
  id: string;
  /** What to do with a stored edit that asks the same: ask, put this one in its place, or keep both. */
  clash: "ask" | "replace" | "both";
  /** The stored edit that it changes, if any, as it was when it was read, and the question that was asked. */
  corrects: { id: string; prompt: string; target: string; revision: number; asked?: string } | null;
  /** What is not shown in the form and must not be lost when a stored edit is changed. */
  rest: Record<string, unknown>;
}

export const EMPTY: Draft = {
  before: [],
  prompt: "",
  target: "",
  variants: [],
  quiet: [],
  id: "",
  clash: "ask",
  corrects: null,
  rest: {},
};

export function readDraft(): Draft {
  try {
    return { ...EMPTY, ...(JSON.parse(sessionStorage.getItem(KEY) ?? "{}") as Partial<Draft>) };
  } catch {
    return EMPTY;
  }
}

export function writeDraft(draft: Partial<Draft>): void {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ ...EMPTY, ...draft }));
  } catch {
    sessionStorage.removeItem(KEY); // it is full: the form goes on without it
  }
}

/** Characters of a text of an edit, and wordings and silent questions of it, that the form takes. */
export const LONGEST = 12_000;
export const MOST = 200;

/** Return what is too much in a draft, as a sentence; nothing if it can be sent. */
export function tooMuch(draft: Draft): string {
  const { prompt, target, variants, quiet } = draft;
  if (prompt.length > LONGEST) {
    const lines = prompt.split("\n").length;
    const many = lines > 10 ? ` It has ${counted(lines, "line")}: for many edits at once, see “meloedit edit FILE”.` : "";
    return `${long("The question", prompt)}${many}`;
  }
  if (target.length > LONGEST) return long("The answer", target);
  const listed = [...variants, ...quiet];
  const one = listed.find((text) => text.length > LONGEST);
  if (one) return long("A question in the lists", one);
  return listed.length > MOST ? `There are ${counted(listed.length, "question")} in the lists: at most ${MOST} fit.` : "";
}

function long(what: string, text: string): string {
  return `${what} has ${counted(text.length, "character")}, and at most ${LONGEST.toLocaleString("en")} fit.`;
}

/** Return a stored edit as a draft that changes it; `asked` is a question that it answered wrongly. */
export function draftOf(edit: StoredEdit, asked?: string): Draft {
  const before: Message[] = typeof edit.prompt === "string" ? [] : edit.prompt.slice(0, -1);
  const texts = (prompts: Asked[]) => prompts.filter((one): one is string => typeof one === "string");
  const others = (prompts: Asked[]) => prompts.filter((one) => typeof one !== "string");
  const prompt = typeof edit.prompt === "string" ? edit.prompt : messageText(edit.prompt[edit.prompt.length - 1]!);
  const variants = before.length ? [] : texts(edit.variants);
  const known = !asked || asked === prompt || variants.includes(asked);
  return {
    before,
    prompt,
    target: edit.target,
    variants: known ? variants : [...variants, asked],
    quiet: texts(edit.quiet).filter((one) => one !== asked),
    id: edit.id,
    clash: "replace",
    corrects: {
      id: edit.id,
      prompt: questionOf(edit.prompt),
      target: edit.target,
      revision: edit.revision,
      asked,
    },
    rest: {
      metadata: edit.metadata,
      ...(edit.over_tools && { over_tools: true }),
      ...(edit.subject && { subject: edit.subject }),
      variants: before.length ? edit.variants : others(edit.variants),
      quiet: others(edit.quiet),
    },
  };
}

/** Return the draft, what changes it, and what empties it, unless a condition holds. */
export function useDraft(): [Draft, (part: Partial<Draft>) => void, (unless?: (draft: Draft) => boolean) => void] {
  const [draft, setDraft] = useState(readDraft);
  useEffect(() => {
    if (!tooMuch(draft)) writeDraft(draft); // what cannot be sent is not kept either
  }, [draft]);
  return [
    draft,
    (part) => setDraft((before) => ({ ...before, ...part })),
    (unless) => setDraft((before) => (unless?.(before) ? before : EMPTY)),
  ];
}
