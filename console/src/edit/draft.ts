// The edit that is being written on the page New edit. It stays in the tab's storage until it is saved or cleared.

import { useEffect, useState } from "preact/hooks";

import type { Message } from "../types";

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
  /** The stored edit that it corrects, if any. */
  corrects: { id: string; prompt: string; target: string } | null;
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

/** Return the draft and what changes it. */
export function useDraft(): [Draft, (part: Partial<Draft>) => void, () => void] {
  const [draft, setDraft] = useState(readDraft);
  useEffect(() => writeDraft(draft), [draft]);
  return [draft, (part) => setDraft((before) => ({ ...before, ...part })), () => setDraft(EMPTY)];
}
