// The two dialogs of an answer: this edit should not have answered, and an edit should have answered.

import { useState } from "preact/hooks";

import { Quoted } from "../components/bits";
import { Question } from "../components/dialog";
import { TextField } from "../components/fields";
import { changeEdit } from "../edits/changing";
import { EditPicker } from "../edit/picker";
import type { StoredEdit } from "../types";
import { asked, type Turn } from "./chat";
import { questionOf } from "../words";

interface Props {
  turn: Turn;
  onDone: (done: string) => void;
  onClose: () => void;
}

export function QuietDialog({ turn, edit, onDone, onClose }: Props & { edit: StoredEdit }) {
  const [reason, setReason] = useState("");
  const prompt = asked(turn.messages);
  const save = async () => {
    await changeEdit({ id: edit.id }, "POST", "/quiet", { prompts: [prompt], reason });
    onDone(`The edit for “${questionOf(edit.prompt)}” stays silent on this question from now on.`);
  };
  return (
    <Question title="This edit should not have answered" yes="Keep it silent here" onYes={save} onClose={onClose}>
      <p>
        The edit for <strong class="text">{questionOf(edit.prompt)}</strong> stays as it is, but will no longer answer
        this question, nor what asks the same:
      </p>
      <blockquote>
        <Quoted asked={prompt} />
      </blockquote>
      <TextField
        label="Why? (optional)"
        hint="It goes into the history, for whoever looks at it later."
        value={reason}
        onInput={setReason}
        first
      />
    </Question>
  );
}

export function AllowDialog({ turn, onDone, onClose }: Props) {
  const candidates = turn.route?.evidence?.candidates ?? [];
  const scored: { edit: StoredEdit; score: number | null }[] = candidates.flatMap(([id, score]) =>
    turn.edits[id] ? [{ edit: turn.edits[id], score }] : [],
  );
  const nearest = turn.route?.nearest ? turn.edits[turn.route.nearest] : undefined;
  if (nearest && !scored.some(({ edit }) => edit.id === nearest.id)) scored.unshift({ edit: nearest, score: null });
  const offered = scored.filter(({ edit }) => edit.id !== turn.route?.edit);
  const [chosen, setChosen] = useState((!turn.route?.edit && offered[0]?.edit.id) || "");
  const [reason, setReason] = useState("");
  const prompt = asked(turn.messages);
  const save = async () => {
    await changeEdit({ id: chosen }, "POST", "/allow", { prompts: [prompt], reason });
    onDone("The edit answers this question from now on.");
  };
  return (
    <Question
      title={turn.route?.edit ? "Another edit should have answered" : "An edit should have answered"}
      yes="Let it answer"
      disabled={!chosen}
      onYes={save}
      onClose={onClose}
      wide
    >
      <p>
        The edit that you choose will answer this question, and what asks the same. Nothing is trained, so it takes a
        second.
      </p>
      <blockquote>
        <Quoted asked={prompt} />
      </blockquote>
      <EditPicker nearest={offered} value={chosen} onChange={setChosen} />
      <TextField label="Why? (optional)" value={reason} onInput={setReason} />
    </Question>
  );
}
