// Undoing one change of an edit: by its opposite, where there is one, else by going back to the revision before.

import { call, finished, get } from "../api";
import { Dialog, Question } from "../components/dialog";
import { Loading, Note } from "../components/notes";
import { happened, promptsOf } from "../history/words";
import { RollbackDialog } from "../history/rollback";
import { useLoad, useSession } from "../session";
import type { Asked, Difference, EditVersion, Job, Revision, StoredEdit } from "../types";
import { counted, questionOf, same } from "../words";
import { asSeen, changeEdit, Meanwhile } from "./changing";

interface Opposite {
  /** What will be done, as a sentence. */
  text: string;
  act: () => Promise<unknown>;
}

/** Return what undoes a change alone, if anything does. */
async function opposite(
  id: string,
  revision: Revision,
  edit: StoredEdit | null,
  signal: AbortSignal,
): Promise<Opposite | null> {
  if (revision.action === "edit" || revision.action === "remove") return formerly(id, revision, edit, signal);
  return small(revision, edit);
}

/** Return what brings an edit back to what it was before it was saved, or removed. */
async function formerly(
  id: string,
  revision: Revision,
  edit: StoredEdit | null,
  signal: AbortSignal,
): Promise<Opposite | null> {
  const around = { old: revision.revision - 1, new: revision.revision, details: 1000 };
  const difference = await get<Difference>("v1/store/diff", around, signal);
  const before = difference.changes?.find((change) => change.id === id)?.old;
  if (before === undefined) return null;
  if (before === null) {
    return edit && { text: "The edit is removed.", act: () => changeEdit(edit, "DELETE") };
  }
  if (!edit) return null;
  const text = `The edit is trained again, to answer “${before.target}” as before. This takes some seconds.`;
  return { text, act: () => asSeen(edit, (at) => trainAgain(id, before, at)) };
}

/** Save an edit as it was, if the store is at a revision. */
export async function trainAgain(id: string, version: EditVersion, revision?: number): Promise<void> {
  const { enabled, ...fields } = version;
  const body = { edits: [{ ...fields, id }], replace: true };
  const job = await finished(await call<Job>("POST", "v1/edits", { body, revision }));
  const report = job.reports[0];
  if (report?.status === "failed") throw new Error(report.reason);
  if (!enabled) await changeEdit({ id }, "PATCH", "", { enabled });
}

function small(revision: Revision, edit: StoredEdit | null): Opposite | null {
  if (!edit) return null;
  const { action } = revision;
  if (action === "disable" && !edit.enabled) {
    return {
      text: "The edit is switched on again.",
      act: () => changeEdit(edit, "PATCH", "", { enabled: true }),
    };
  }
  if (action === "enable" && edit.enabled) {
    return {
      text: "The edit is switched off again.",
      act: () => changeEdit(edit, "PATCH", "", { enabled: false }),
    };
  }
  const still = (kept: Asked[]) => promptsOf(revision).filter((prompt) => kept.some((one) => same(one, prompt)));
  if (action === "quiet" && still(edit.quiet).length) {
    const prompts = still(edit.quiet);
    return {
      text: `The edit answers again: ${prompts.map((one) => `“${questionOf(one)}”`).join(", ")}.`,
      act: () => changeEdit(edit, "POST", "/allow", { prompts, reason: `undoes revision ${revision.revision}` }),
    };
  }
  if (action === "allow" && still(edit.variants).length) {
    const prompts = still(edit.variants);
    return {
      text: `The edit stays silent on: ${prompts.map((one) => `“${questionOf(one)}”`).join(", ")}.`,
      act: () => changeEdit(edit, "POST", "/quiet", { prompts, reason: `undoes revision ${revision.revision}` }),
    };
  }
  return null;
}

interface Props {
  id: string;
  revision: Revision;
  edit: StoredEdit | null;
  onDone: (done: string) => void;
  /** Somebody else changed the edit first. */
  onMeanwhile: (error: Meanwhile) => void;
  onClose: () => void;
}

export function UndoDialog({ id, revision, edit, onDone, onMeanwhile, onClose }: Props) {
  const session = useSession();
  const now = session.store?.revision ?? revision.revision;
  const later = now - revision.revision;
  const own = useLoad(
    (signal) => (later > 0 ? opposite(id, revision, edit, signal) : Promise.resolve(null)),
    [revision.revision, later],
  );
  if (own.loading) {
    return (
      <Dialog title="Undo this change?" onClose={onClose}>
        <Loading />
      </Dialog>
    );
  }
  if (!own.data) {
    return (
      <RollbackDialog to={revision.revision - 1} title="Undo this change?" yes="Undo" onDone={onDone} onClose={onClose}>
        <p>
          <strong class="text">{happened(revision, edit ?? undefined)}.</strong>
        </p>
        {later > 0 && (
          <Note look="warn">
            {counted(later, "later change")}, of this edit and of others, would be undone with it, since the store goes
            back to revision {revision.revision - 1}.
          </Note>
        )}
      </RollbackDialog>
    );
  }
  const { text, act } = own.data;
  const undo = async () => {
    try {
      await act();
    } catch (error) {
      if (error instanceof Meanwhile) return onMeanwhile(error);
      throw error;
    }
    await session.refresh();
    onDone(`Undone. ${text}`);
  };
  return (
    <Question title="Undo this change?" yes="Undo" onYes={undo} onClose={onClose}>
      <p>
        <strong class="text">{happened(revision, edit ?? undefined)}.</strong>
      </p>
      <p class="text">{text} Later changes of other edits stay as they are.</p>
    </Question>
  );
}
