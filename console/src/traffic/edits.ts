// Edits by their ids, read once: lists of hits and findings name edits, and readers know them by their questions.

import { useEffect, useState } from "preact/hooks";

import { ApiError, get, readEdit } from "../api";
import type { EditPage, StoredEdit, StoreInfo } from "../types";
import { questionOf } from "../words";

/** Edits that are read at once. */
const AT_ONCE = 8;
/** A store of so many edits is read as a list, so that nobody asks for edits that were removed. */
const LISTED = 1000;

/** Null: there is no such edit any longer; undefined: not known, or not yet. */
export type EditsById = Map<string, StoredEdit | null | undefined>;

/** What was read of a revision, for all parts of the page and until the tab is closed. */
let known: { of: string; edits: EditsById; list: Promise<EditPage> | null } = { of: "", edits: new Map(), list: null };

/** Read edits by id, again when the store's revision changes. */
export function useEdits(ids: string[], store: StoreInfo | null): EditsById {
  const [found, setFound] = useState<EditsById>(new Map());
  const wanted = [...new Set(ids)].sort().join("\n");
  useEffect(() => {
    if (!store || !wanted) return;
    let left = false;
    const of = `${store.store} ${store.revision}`;
    if (known.of !== of) known = { of, edits: new Map(), list: null };
    const mine = known;
    void read(wanted.split("\n"), store, mine).then(
      () => left || setFound(new Map(mine.edits)),
      () => {}, // the ids stand for the edits then
    );
    return () => void (left = true);
  }, [wanted, store?.store, store?.revision]);
  return found;
}

async function read(ids: string[], store: StoreInfo, kept: typeof known): Promise<void> {
  const missing = ids.filter((id) => !kept.edits.has(id));
  if (!missing.length) return;
  if (store.edits <= LISTED) {
    kept.list ??= get<EditPage>("v1/edits", { limit: LISTED });
    const page = await kept.list.catch((error: unknown) => {
      kept.list = null;
      throw error;
    });
    const listed = new Map(page.data.map((edit) => [edit.id, edit]));
    if (page.next === null) return missing.forEach((id) => kept.edits.set(id, listed.get(id) ?? null));
  }
  for (let start = 0; start < missing.length; start += AT_ONCE) {
    const part = missing.slice(start, start + AT_ONCE);
    const edits = await Promise.all(part.map(readOne));
    part.forEach((id, i) => kept.edits.set(id, edits[i]));
  }
}

async function readOne(id: string): Promise<StoredEdit | null | undefined> {
  try {
    return await readEdit(id);
  } catch (error) {
    if (error instanceof ApiError) return error.status === 404 ? null : undefined;
    throw error;
  }
}

/** Return what to call an edit: its question, or its id where that is not known. */
export function nameOf(edits: EditsById, id: string): string {
  const edit = edits.get(id);
  if (edit) return questionOf(edit.prompt);
  return edit === null ? `${id} (removed)` : id;
}
