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
  const { revision } = await asSeen(seen, (at) =>
    call<{ revision: number }>(method, editPath(seen.id, rest), { body, revision: at }),
  );
  own.set(seen.id, revision);
}

/** Do something to an edit as the reader saw it; `act` is told at which revision the store must be. */
export async function asSeen<T>({ id, revision }: Seen, act: (at?: number) => Promise<T>): Promise<T> {
  return again(async () => act(revision === undefined ? undefined : await unchanged(id, revision)));
}

/** Do something about an edit that is not in the store. */
export async function asGone<T>(id: string, act: (at: number) => Promise<T>): Promise<T> {
  return again(async () => {
    const store = await get<StoreInfo>("v1/store");
    const now = await readEdit(id).catch((error: unknown) => {
      if (isMissing(error)) return null;
      throw error;
    });
    if (now) throw new Meanwhile("Somebody brought this edit back meanwhile. It is shown as it is now.");
    return act(store.revision);
  });
}

/** Try something again while others change other edits. */
async function again<T>(act: () => Promise<T>): Promise<T> {
  for (let left = TRIES; ; left--) {
    try {
      return await act();
    } catch (error) {
      if (isMissing(error)) throw new Meanwhile("Somebody removed this edit meanwhile.");
      if (!(error instanceof ApiError && error.code === "revision") || left <= 1) throw error;
    }
  }
}

export function isMissing(error: unknown): boolean {
  return error instanceof ApiError && error.code === "edit_not_found";
}

/** Return a revision of the store at which the edit is what the reader saw. */
async function unchanged(id: string, revision: number): Promise<number> {
  const store = await get<StoreInfo>("v1/store");
  const now = await readEdit(id);
  if (now.revision !== revision && now.revision !== own.get(id))
    throw new Meanwhile("Somebody changed this edit meanwhile. It is shown as it is now.");
  return store.revision;
}
