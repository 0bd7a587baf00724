// Edits by their ids, read once: lists of hits and findings name edits, and readers know them by their questions.

import { useEffect, useRef, useState } from "preact/hooks";

import { ApiError, editPath, get } from "../api";
import type { StoredEdit } from "../types";
import { questionOf } from "../words";

/** Edits that are read at once. */
const AT_ONCE = 8;

/** Null: there is no such edit any longer; undefined: not known yet. */
export type EditsById = Map<string, StoredEdit | null>;

/** Read edits by id, again when the store's revision changes. */
export function useEdits(ids: string[], revision: number | undefined): EditsById {
  const [found, setFound] = useState<EditsById>(new Map());
  const known = useRef<{ revision: number | undefined; edits: EditsById }>({ revision, edits: new Map() });
  const wanted = [...new Set(ids)].sort().join("\n");
  useEffect(() => {
    const leaving = new AbortController();
    if (known.current.revision !== revision) known.current = { revision, edits: new Map() };
    const { edits } = known.current;
    const missing = wanted.split("\n").filter((id) => id && !edits.has(id));
    const read = async () => {
      for (let start = 0; start < missing.length; start += AT_ONCE) {
        const part = missing.slice(start, start + AT_ONCE);
        const read = await Promise.all(part.map((id) => readOne(id, leaving.signal)));
        part.forEach((id, i) => edits.set(id, read[i]!));
      }
      setFound(new Map(edits));
    };
    read().catch(() => {}); // the ids stand for the edits then
    return () => leaving.abort();
  }, [wanted, revision]);
  return found;
}

async function readOne(id: string, signal: AbortSignal): Promise<StoredEdit | null> {
  try {
    return await get<StoredEdit>(editPath(id), {}, signal);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

/** Return what to call an edit: its question, or its id where that is not known. */
export function nameOf(edits: EditsById, id: string): string {
  const edit = edits.get(id);
  if (edit) return questionOf(edit.prompt);
  return edit === null ? `${id} (removed)` : id;
}
