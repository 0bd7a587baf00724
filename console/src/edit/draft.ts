// The edit that is being written on the page New edit. It stays in the tab's storage until it is saved or cleared.

import { useEffect, useState } from "preact/hooks";

import type { Asked, Message, StoredEdit } from "../types";
import { messageText, questionOf } from "../words";

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
  /** The stored edit that it changes, if any, and the question that was asked. */
  corrects: { id: string; prompt: string; target: string; asked?: string } | null;
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
  sessionStorage.setItem(KEY, JSON.stringify({ ...EMPTY, ...draft }));
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
    corrects: { id: edit.id, prompt: questionOf(edit.prompt), target: edit.target, asked },
    rest: {
      metadata: edit.metadata,
      ...(edit.over_tools && { over_tools: true }),
      variants: before.length ? edit.variants : others(edit.variants),
      quiet: others(edit.quiet),
    },
  };
}

/** Return the draft, what changes it, and what empties it, unless a condition holds. */
export function useDraft(): [Draft, (part: Partial<Draft>) => void, (unless?: (draft: Draft) => boolean) => void] {
  const [draft, setDraft] = useState(readDraft);
  useEffect(() => writeDraft(draft), [draft]);
  return [
    draft,
    (part) => setDraft((before) => ({ ...before, ...part })),
    (unless) => setDraft((before) => (unless?.(before) ? before : EMPTY)),
  ];
}
