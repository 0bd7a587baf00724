// Changes of an edit that somebody else may have changed or removed meanwhile.

import { ApiError, call, editPath, get, readEdit } from "../api";
import type { StoreInfo } from "../types";

/** Somebody else was faster: nothing was done, and the page should read the edit again. */
export class Meanwhile extends Error {}

/** The revisions that changes of this tab made, by edit: these are nobody else's. */
const own = new Map<string, number>();
/** How often a change is tried while others change other edits. */
const TRIES = 4;

interface Seen {
  id: string;
  /** The edit's latest change that the reader has seen; without it only a removal is told. */
  revision?: number;
}

/** Change an edit as the reader saw it. */
export async function changeEdit(seen: Seen, method: string, rest = "", body?: unknown): Promise<void> {
  for (let left = TRIES; ; left--) {
    try {
      const revision = seen.revision === undefined ? undefined : await unchanged(seen.id, seen.revision);
      const done = await call<{ revision: number }>(method, editPath(seen.id, rest), { body, revision });
      own.set(seen.id, done.revision);
      return;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 404) throw new Meanwhile("Somebody removed this edit meanwhile.");
      if (error.status !== 412 || left <= 1) throw error; // 412: another edit may have changed
    }
  }
}

/** Return a revision of the store at which the edit is what the reader saw. */
async function unchanged(id: string, revision: number): Promise<number> {
  const store = await get<StoreInfo>("v1/store");
  const now = await readEdit(id);
  if (now.revision !== revision && now.revision !== own.get(id))
    throw new Meanwhile("Somebody changed this edit meanwhile. It is shown as it is now.");
  return store.revision;
}
