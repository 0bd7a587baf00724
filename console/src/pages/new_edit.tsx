// New edit: write it, see what it would reach, save it, and see whether the model has learned it.

import { FlaskConical, GraduationCap, Trash } from "lucide";
import { useEffect, useRef, useState } from "preact/hooks";

import { post } from "../api";
import { ask } from "../ask/chat";
import { PageHead } from "../components/bits";
import { Button } from "../components/button";
import { ErrorLine, Loading, Note } from "../components/notes";
import { type Draft, draftOf, EMPTY, tooMuch, useDraft } from "../edit/draft";
import { EditForm } from "../edit/form";
import { Outcome } from "../edit/outcome";
import { bodyOf, useSaving } from "../edit/saving";
import { TrialResult } from "../edit/trial";
import { go } from "../router";
import { sentence, useSession } from "../session";
import type { StoredEdit, Trial } from "../types";

export function NewEdit() {
  const session = useSession();
  const [draft, change, clear] = useDraft();
  const { trial, trialError, trying, check, drop } = useTrial();
  const { saving, save, stop, done } = useSaving((of) => {
    clear((written) => JSON.stringify(bodyOf(written)) !== of); // another one may have been begun meanwhile
    drop();
    void session.refresh();
  });
  const panel = useRef<HTMLElement>(null);
  const wrong = tooMuch(draft);
  const now = wrong || JSON.stringify(bodyOf(draft));
  const checked = trial !== null && trial.of === now;
  const complete = !wrong && draft.prompt.trim() !== "" && draft.target.trim() !== "";
  const show = () =>
    requestAnimationFrame(() => panel.current?.scrollIntoView({ block: "nearest", behavior: "smooth" }));
  const outcome = saving.report || saving.error || saving.meanwhile;
  useEffect(() => {
    if (outcome) show(); // it is longer than what was there while the edit trained
  }, [outcome]);
  const update = (part: Partial<Draft>) => {
    const next = { ...draft, ...part };
    change(part);
    if (trial) void check(next); // what was found is shown anew at once
  };
  const submit = (event: Event) => {
    event.preventDefault();
    if (!complete) return;
    if (checked) void save(draft);
    else void check(draft);
    show();
  };
  const still = (now: StoredEdit | null) => {
    const part: Partial<Draft> = now
      ? { corrects: draft.corrects && { ...draft.corrects, revision: now.revision } }
      : { corrects: null, clash: "ask" };
    change(part);
    void save({ ...draft, ...part });
  };
  const busy = saving.job !== null && saving.report === null;
  return (
    <>
      <PageHead title={draft.corrects ? "Change an edit" : "New edit"}>
        Teach the model one answer. What it says about everything else stays the same.
      </PageHead>
      <div class="two">
        <form class="card stack" onSubmit={submit}>
          {draft.corrects && <Corrects draft={draft} onChange={change} />}
          <EditForm draft={draft} onChange={(part) => (change(part), (saving.error || saving.report || saving.meanwhile) && done())} />
          <ErrorLine>{wrong}</ErrorLine>
          <div class="actions">
            <Button
              type="submit"
              look={checked ? "plain" : "main"}
              icon={FlaskConical}
              busy={trying}
              disabled={!complete || busy || checked}
            >
              {checked ? "Checked" : trial ? "Check again" : "Check it first"}
            </Button>
            <Button
              look={checked ? "main" : "plain"}
              icon={GraduationCap}
              onClick={() => (void save(draft), show())}
              disabled={!checked || busy}
            >
              Save and train
            </Button>
            {now !== JSON.stringify(bodyOf(EMPTY)) && (
              <Button look="quiet" icon={Trash} onClick={() => (clear(), drop(), done())}>
                Empty the form
              </Button>
            )}
          </div>
          {!checked && complete && !trying && (
            <p class="hint">It can be saved once it is checked, which takes a second.</p>
          )}
        </form>
        <section class="card stack shown-whole" aria-label="Check and training" ref={panel}>
          {(saving.job || saving.error || saving.meanwhile) && !trying ? (
            <>
              <h2>{saving.meanwhile ? "Somebody else was faster" : "Training"}</h2>
              <Outcome
                saving={saving}
                onStop={stop}
                onWay={(clash) => (change({ clash }), void save({ ...draft, clash }))}
                onAsk={(question) => {
                  ask(session, question);
                  go("ask");
                }}
                onAnother={done}
                onAgain={(now) => (change(draftOf(now, draft.corrects?.asked)), drop(), done())}
                onStill={still}
                changed={draft.corrects?.id ?? ""}
              />
            </>
          ) : (
            <>
              <h2>What else would it answer?</h2>
              <ErrorLine>{trialError}</ErrorLine>
              {trying && !trial && <Loading>Trying similar questions …</Loading>}
              {trial ? (
                <div role="status" class={checked ? "" : "stale"}>
                  <TrialResult
                    trial={trial.found}
                    onQuiet={(prompts) => update({ quiet: [...draft.quiet.filter(Boolean), ...prompts] })}
                    onSame={(prompt) => update({ variants: [...draft.variants.filter(Boolean), prompt] })}
                  />
                </div>
              ) : (
                !trying && (
                  <Note>
                    Before an edit is saved, similar questions are tried: those that would wrongly get its answer are
                    shown here, and one click keeps it silent on them.
                  </Note>
                )
              )}
            </>
          )}
        </section>
      </div>
    </>
  );
}

function Corrects({ draft, onChange }: { draft: Draft; onChange: (part: Partial<Draft>) => void }) {
  const { corrects } = draft;
  if (!corrects) return null;
  const { asked } = corrects;
  return (
    <Note>
      You are changing the edit for <strong class="text">{corrects.prompt}</strong>: give it the right answer and save
      it again.
      {asked && asked !== corrects.prompt && (
        <>
          {" "}
          <span class="text">“{asked}”</span> is now one of its wordings.{" "}
          <Button look="quiet" onClick={() => onChange({ ...EMPTY, prompt: asked })}>
            No, that is another question
          </Button>
        </>
      )}
    </Note>
  );
}

/** The latest trial, with the edit that it is of. */
function useTrial() {
  const [trial, setTrial] = useState<{ of: string; found: Trial } | null>(null);
  const [trialError, setError] = useState("");
  const [trying, setTrying] = useState(false);
  const latest = useRef(0);
  useEffect(() => () => void latest.current++, []);
  const check = async (draft: Draft) => {
    const number = ++latest.current;
    setTrying(true);
    setError("");
    try {
      const body = bodyOf(draft);
      const { data } = await post<{ data: Trial[] }>("v1/edits/trial", { edits: [body] });
      if (number === latest.current) setTrial({ of: JSON.stringify(body), found: data[0]! });
    } catch (error) {
      if (number === latest.current) setError(sentence(error));
    }
    if (number === latest.current) setTrying(false);
  };
  const drop = () => {
    latest.current++;
    setTrial(null);
    setError("");
    setTrying(false);
  };
  return { trial, trialError, trying, check, drop };
}
