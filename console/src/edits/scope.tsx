// Which questions an edit answers, and on which it stays silent; both can be put right without training.

import { BellOff, MessageCircleReply } from "lucide";
import { useId, useState } from "preact/hooks";

import { Quoted } from "../components/bits";
import { Button } from "../components/button";
import { ErrorLine } from "../components/notes";
import { sentence, useSession } from "../session";
import type { Asked, StoredEdit } from "../types";
import { questionOf } from "../words";
import { changeEdit, Meanwhile } from "./changing";

interface Props {
  edit: StoredEdit;
  onDone: (done: string) => void;
  /** Somebody else changed the edit first. */
  onMeanwhile: (error: Meanwhile) => void;
}

const KINDS = {
  allow: {
    title: "Also answers",
    hint: "Other ways to ask that get this answer. What asks the same is mostly understood without being listed.",
    add: "Add a way to ask",
    button: "Let it answer",
    other: "quiet",
    turn: "Stay silent on it",
    done: "It answers this question from now on.",
  },
  quiet: {
    title: "Stays silent on",
    hint: "Questions that look alike and get the model’s own answer.",
    add: "Add a question",
    button: "Keep it silent",
    other: "allow",
    turn: "Let it answer",
    done: "It stays silent on this question from now on.",
  },
} as const;

export function Scope({ edit, onDone, onMeanwhile }: Props) {
  return (
    <>
      <Prompts kind="allow" edit={edit} prompts={edit.variants} onDone={onDone} onMeanwhile={onMeanwhile} />
      <Prompts kind="quiet" edit={edit} prompts={edit.quiet} onDone={onDone} onMeanwhile={onMeanwhile} />
    </>
  );
}

function Prompts({ kind, edit, prompts, onDone, onMeanwhile }: Props & { kind: "allow" | "quiet"; prompts: Asked[] }) {
  const id = useId();
  const session = useSession();
  const words = KINDS[kind];
  const [text, setText] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const change = async (action: "allow" | "quiet", prompt: Asked) => {
    setBusy(true);
    try {
      await changeEdit(edit, "POST", `/${action}`, { prompts: [prompt] });
      setError("");
      if (action === kind) setText("");
      onDone(KINDS[action].done);
      await session.refresh();
    } catch (failure) {
      if (failure instanceof Meanwhile) onMeanwhile(failure);
      else setError(sentence(failure));
    }
    setBusy(false);
  };
  return (
    <section class="card stack tight" aria-labelledby={id}>
      <h2 id={id}>{words.title}</h2>
      <p class="hint">{words.hint}</p>
      {prompts.length > 0 && (
        <ul class="prompts">
          {prompts.map((prompt, i) => (
            <li key={i}>
              <span>
                <Quoted asked={prompt} />
              </span>
              <Button
                look="quiet"
                icon={kind === "allow" ? BellOff : MessageCircleReply}
                onClick={() => void change(words.other, prompt)}
                label={`${words.turn}: ${questionOf(prompt)}`}
              >
                {words.turn}
              </Button>
            </li>
          ))}
        </ul>
      )}
      <form
        class="list-row"
        onSubmit={(event) => {
          event.preventDefault();
          if (text.trim() && !busy) void change(kind, text.trim());
        }}
      >
        <input
          type="text"
          aria-label={words.add}
          placeholder={words.add}
          value={text}
          onInput={(event) => setText(event.currentTarget.value)}
        />
        <Button type="submit" busy={busy} disabled={!text.trim()}>
          {words.button}
        </Button>
      </form>
      <ErrorLine>{error}</ErrorLine>
    </section>
  );
}
