// Undoing one change of an edit: by its opposite, where there is one, else by going back to the revision before.

import { call, editPath, post } from "../api";
import { Question } from "../components/dialog";
import { Note } from "../components/notes";
import { happened, promptsOf } from "../history/words";
import { RollbackDialog } from "../history/rollback";
import { useSession } from "../session";
import type { Asked, Revision, StoredEdit } from "../types";
import { counted, questionOf, same } from "../words";

interface Opposite {
  /** What will be done, as a sentence. */
  text: string;
  act: () => Promise<unknown>;
}

/** Return what undoes a change alone, if anything does. */
function opposite(revision: Revision, edit: StoredEdit | null): Opposite | null {
  if (!edit) return null;
  const { action } = revision;
  if (action === "disable" && !edit.enabled) {
    return { text: "The edit is switched on again.", act: () => call("PATCH", editPath(edit.id), { body: { enabled: true } }) };
  }
  if (action === "enable" && edit.enabled) {
    return { text: "The edit is switched off again.", act: () => call("PATCH", editPath(edit.id), { body: { enabled: false } }) };
  }
  const still = (kept: Asked[]) => promptsOf(revision).filter((prompt) => kept.some((one) => same(one, prompt)));
  if (action === "quiet" && still(edit.quiet).length) {
    const prompts = still(edit.quiet);
    return {
      text: `The edit answers again: ${prompts.map((one) => `“${questionOf(one)}”`).join(", ")}.`,
      act: () => post(editPath(edit.id, "/allow"), { prompts, reason: `undoes revision ${revision.revision}` }),
    };
  }
  if (action === "allow" && still(edit.variants).length) {
    const prompts = still(edit.variants);
    return {
      text: `The edit stays silent on: ${prompts.map((one) => `“${questionOf(one)}”`).join(", ")}.`,
      act: () => post(editPath(edit.id, "/quiet"), { prompts, reason: `undoes revision ${revision.revision}` }),
    };
  }
  return null;
}

interface Props {
  revision: Revision;
  edit: StoredEdit | null;
  onDone: (done: string) => void;
  onClose: () => void;
}

export function UndoDialog({ revision, edit, onDone, onClose }: Props) {
  const session = useSession();
  const now = session.store?.revision ?? revision.revision;
  const later = now - revision.revision;
  const own = later > 0 ? opposite(revision, edit) : null;
  if (!own) {
    return (
      <RollbackDialog to={revision.revision - 1} title="Undo this change?" onDone={onDone} onClose={onClose}>
        <p>
          <strong class="text">{happened(revision)}.</strong>
        </p>
        {later > 0 && (
          <Note look="warn">
            {counted(later, "later change")}, of this edit and of others, would be undone with it, since the store goes back to revision{" "}
            {revision.revision - 1}.
          </Note>
        )}
      </RollbackDialog>
    );
  }
  const act = async () => {
    await own.act();
    await session.refresh();
    onDone(`Undone. ${own.text}`);
  };
  return (
    <Question title="Undo this change?" yes="Undo" onYes={act} onClose={onClose}>
      <p>
        <strong class="text">{happened(revision)}.</strong>
      </p>
      <p class="text">{own.text} Later changes stay as they are.</p>
    </Question>
  );
}
