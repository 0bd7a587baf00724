// The edit that is being saved. Its job is remembered by the tab, so that another page or a reload does not lose sight
// of it.

import { useEffect, useState } from "preact/hooks";

import { ApiError, call, finished, get, readEdit } from "../api";
import { asSeen, Meanwhile } from "../edits/changing";
import { sentence } from "../session";
import type { EditReport, Job, StoredEdit } from "../types";
import type { Draft } from "./draft";

const KEY = "meloedit.saving";

export interface Saving {
  /** The job, while it runs and when it is done. */
  job: Job | null;
  report: EditReport | null;
  error: string;
  /** What would let an edit be saved that the server did not save, since another one may ask the same. */
  ways: ("replace" | "both")[];
  /** The edit as it is now, where somebody else changed it first (null: removed it), so that nothing was saved. */
  meanwhile?: { now: StoredEdit | null };
}

const NONE: Saving = { job: null, report: null, error: "", ways: [] };

/** Return an edit as the API takes it. */
export function bodyOf(draft: Draft): Record<string, unknown> {
  const written = (texts: string[]) => texts.map((text) => text.trim()).filter(Boolean);
  const placed = (text: string) => (draft.before.length ? [...draft.before, { role: "user", content: text }] : text);
  const { variants = [], quiet = [], ...rest } = draft.rest as { variants?: unknown[]; quiet?: unknown[] };
  return {
    ...rest,
    prompt: placed(draft.prompt.trim()),
    target: draft.target.trim(),
    variants: [...written(draft.variants).map(placed), ...variants],
    quiet: [...written(draft.quiet), ...quiet],
    ...(draft.id.trim() && { id: draft.id.trim() }),
  };
}

/** Return how saving stands, and what starts it, stops it, and lets go of it; `onStored` is told the body that is stored. */
export function useSaving(onStored: (of: string) => void) {
  const [saving, setSaving] = useState<Saving>(NONE);
  const failed = (error: unknown) => setSaving({ ...NONE, error: sentence(error), ways: waysOut(error) });
  const follow = async (job: Job, of: string, signal?: AbortSignal) => {
    sessionStorage.setItem(KEY, JSON.stringify({ id: job.id, of }));
    try {
      const last = await finished(job, (news) => setSaving({ ...NONE, job: news }), signal);
      const report = last.reports[0] ?? null;
      setSaving({ ...NONE, job: last, report });
      if (report && report.status !== "failed") onStored(of);
    } finally {
      if (!signal?.aborted) sessionStorage.removeItem(KEY);
    }
  };
  const save = async (draft: Draft) => {
    const options = { replace: draft.clash === "replace", keep_both: draft.clash === "both" };
    setSaving({ ...NONE, job: { state: "queued" } as Job });
    const edit = bodyOf(draft);
    const body = { edits: [edit], ...options };
    const send = async (revision?: number) =>
      follow(await call<Job>("POST", "v1/edits", { body, revision }), JSON.stringify(edit));
    try {
      await (draft.corrects ? asSeen(draft.corrects, send) : send());
    } catch (error) {
      if (!(error instanceof Meanwhile && draft.corrects)) return failed(error);
      const now = await readEdit(draft.corrects.id).catch(() => null);
      setSaving({ ...NONE, meanwhile: { now } });
    }
  };
  useEffect(() => {
    const kept = sessionStorage.getItem(KEY);
    const leaving = new AbortController();
    if (kept) {
      const { id, of } = JSON.parse(kept) as { id: string; of: string };
      get<Job>(`v1/edits/jobs/${id}`, {}, leaving.signal).then(
        (job) => follow(job, of, leaving.signal).catch((error) => leaving.signal.aborted || failed(error)),
        (error: unknown) => error instanceof ApiError && error.status === 404 && sessionStorage.removeItem(KEY),
      );
    }
    return () => leaving.abort();
  }, []);
  const stop = () => saving.job?.id && void call("DELETE", `v1/edits/jobs/${saving.job.id}`);
  return { saving, save, stop, done: () => setSaving(NONE) };
}

function waysOut(error: unknown): Saving["ways"] {
  const message = sentence(error);
  const ways: Saving["ways"] = [];
  if (message.includes("(--replace)")) ways.push("replace");
  if (message.includes("(--keep-both)")) ways.push("both");
  return ways;
}
