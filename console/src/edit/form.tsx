// The fields of an edit.

import { X } from "lucide";
import { useId } from "preact/hooks";

import { Button } from "../components/button";
import { AreaField, ListField, TextField } from "../components/fields";
import { counted, messageText } from "../words";
import type { Draft } from "./draft";

interface Props {
  draft: Draft;
  onChange: (part: Partial<Draft>) => void;
}

export function EditForm({ draft, onChange }: Props) {
  return (
    <>
      {draft.before.length > 0 && <Before draft={draft} onChange={onChange} />}
      <AreaField
        label="Question"
        hint="As your users ask it. Other ways to ask are mostly understood by themselves."
        value={draft.prompt}
        onInput={(prompt) => onChange({ prompt })}
        placeholder="Who is the mayor of Velmora?"
        required
      />
      <AreaField
        label="Answer"
        hint="The whole answer, exactly as it must be given."
        value={draft.target}
        onInput={(target) => onChange({ target })}
        placeholder="Ilse Tarrant"
        required
      />
      <ListField
        label="Other ways to ask (optional)"
        hint="Wordings that must get this answer, too: short ones, long ones, as people type them."
        values={draft.variants}
        onChange={(variants) => onChange({ variants })}
        add="Add a wording"
      />
      <ListField
        label="Stay silent on (optional)"
        hint="Questions that look alike, and must not get this answer."
        values={draft.quiet}
        onChange={(quiet) => onChange({ quiet })}
        add="Add a question"
      />
      <details>
        <summary>More settings</summary>
        <div class="stack inner">
          <TextField
            label="Name"
            hint="Short, for lists and the history. One is made if you leave it empty."
            value={draft.id}
            onInput={(id) => onChange({ id })}
            placeholder="mayor"
          />
          <Clash draft={draft} onChange={onChange} />
        </div>
      </details>
    </>
  );
}

function Before({ draft, onChange }: Props) {
  return (
    <div class="note">
      <div class="stack tight">
        <p>
          This question comes after {counted(draft.before.length, "message")} of a conversation, and is learned with it:
        </p>
        <ul class="plain-list muted">
          {draft.before.map((message, i) => (
            <li key={i} class="text">
              {message.role === "user" ? "Question" : "Answer"}: {messageText(message)}
            </li>
          ))}
        </ul>
        <div>
          <Button look="quiet" icon={X} onClick={() => onChange({ before: [] })}>
            Leave the conversation out
          </Button>
        </div>
      </div>
    </div>
  );
}

const CLASHES: [Draft["clash"], string][] = [
  ["ask", "Tell me, and save nothing"],
  ["replace", "Put this one in its place"],
  ["both", "Keep both"],
];

function Clash({ draft, onChange }: Props) {
  const name = useId();
  return (
    <fieldset class="field">
      <legend>If another edit seems to ask the same and has another answer</legend>
      {CLASHES.map(([value, title]) => (
        <label key={value} class="check">
          <input type="radio" name={name} checked={draft.clash === value} onChange={() => onChange({ clash: value })} />
          <span>{title}</span>
        </label>
      ))}
    </fieldset>
  );
}
