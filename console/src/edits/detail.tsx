// One edit: what it answers, how often, its history, and what can be done with it.

import { ArrowLeft, MessageCircle, PenLine, Power, Trash, Undo2 } from "lucide";
import { Fragment } from "preact";
import { useState } from "preact/hooks";

import { ApiError, get, readEdit } from "../api";
import { ask } from "../ask/chat";
import { Ago, PageHead, State } from "../components/bits";
import { Button } from "../components/button";
import { Question } from "../components/dialog";
import { Icon } from "../components/icon";
import { ErrorLine, Loading, StatusLine } from "../components/notes";
import { draftOf, writeDraft } from "../edit/draft";
import { Timeline } from "../history/timeline";
import { go, link } from "../router";
import { sentence, useLoad, useSession } from "../session";
import type { HistoryPage, Revision, StoredEdit } from "../types";
import { counted, messageText, percent, questionOf } from "../words";
import { changeEdit, Meanwhile } from "./changing";
import { formerOf, Gone } from "./gone";
import { Scope } from "./scope";
import { UndoDialog } from "./undo";

/** Revisions of an edit that are shown. */
const SHOWN = 200;

export function EditDetail({ id }: { id: string }) {
  const session = useSession();
  const revision = session.store?.revision;
  const loaded = useLoad((signal) => found(id, signal), [id, revision]);
  const history = useLoad(
    (signal) => get<HistoryPage>("v1/store/history", { edit: id, limit: SHOWN }, signal),
    [id, revision],
  );
  const edit = loaded.data?.edit ?? null;
  const latest = history.data?.data[0];
  const missing = loaded.data?.id === id && !edit; // also while it is read again: a question may be open
  const former = useLoad(
    (signal) => (missing ? formerOf(id, latest, signal) : Promise.resolve(null)),
    [missing, latest?.revision],
  );
  const prompt = edit?.prompt ?? former.data?.version.prompt ?? null;
  const [dialog, setDialog] = useState<"remove" | Revision | null>(null);
  const [done, setDone] = useState("");
  const [error, setError] = useState("");
  const did = (text: string) => {
    setDone(text);
    setError("");
    void session.refresh();
  };
  const failed = (failure: unknown) => {
    setError(sentence(failure));
    setDone("");
    if (!(failure instanceof Meanwhile)) return;
    void session.refresh();
    void loaded.reload();
    scrollTo(0, 0); // where the error is shown
  };
  const toggle = async (one: StoredEdit) => {
    try {
      await changeEdit(one, "PATCH", "", { enabled: !one.enabled });
      did(one.enabled ? "Switched off: its questions get the model’s own answers." : "Switched on.");
    } catch (failure) {
      failed(failure);
    }
  };
  return (
    <>
      <a class="back" href={link("edits")}>
        <Icon of={ArrowLeft} size={16} /> All edits
      </a>
      <PageHead
        title={prompt === null ? id : questionOf(prompt)}
        actions={
          edit && (
            <>
              <Button icon={MessageCircle} onClick={() => (ask(session, questionOf(edit.prompt)), go("ask"))}>
                Ask it
              </Button>
              <Button icon={PenLine} onClick={() => change(edit)}>
                Change it
              </Button>
              <Button icon={Power} onClick={() => void toggle(edit)}>
                {edit.enabled ? "Switch off" : "Switch on"}
              </Button>
              <Button icon={Trash} look="danger" onClick={() => setDialog("remove")}>
                Remove
              </Button>
            </>
          )
        }
      />
      <StatusLine>{done}</StatusLine>
      <ErrorLine>{loaded.error || history.error || error}</ErrorLine>
      {!loaded.data && loaded.loading && <Loading />}
      {missing && (history.data || !history.loading) && <Gone {...{ id, latest, former }} onDone={did} onMeanwhile={failed} />}
      {edit && (
        <div class="two even">
          <Facts edit={edit} />
          <div class="stack">
            <Scope edit={edit} onDone={did} onMeanwhile={failed} />
          </div>
        </div>
      )}
      {history.data && (
        <section class="card stack tight" aria-labelledby="edit-history">
          <h2 id="edit-history">History of this edit</h2>
          <Timeline
            label="Changes of this edit, the latest first"
            revisions={history.data.data}
            of={{ prompt }}
            actions={(one) =>
              edit && (
                <Button look="quiet" icon={Undo2} onClick={() => setDialog(one)} label={`Undo revision ${one.revision}`}>
                  Undo
                </Button>
              )
            }
          />
        </section>
      )}
      {dialog === "remove" && edit && <RemoveDialog edit={edit} onDone={did} onMeanwhile={failed} onClose={() => setDialog(null)} />}
      {dialog && dialog !== "remove" && (
        <UndoDialog id={id} revision={dialog} edit={edit} onDone={did} onMeanwhile={failed} onClose={() => setDialog(null)} />
      )}
    </>
  );
}

/** Return the edit, or null where it is not in the store. */
async function found(id: string, signal: AbortSignal): Promise<{ id: string; edit: StoredEdit | null }> {
  try {
    return { id, edit: await readEdit(id, signal) };
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return { id, edit: null };
    throw error;
  }
}

/** Go to New edit, with this edit filled in. */
function change(edit: StoredEdit): void {
  writeDraft(draftOf(edit));
  go("new");
}

function Facts({ edit }: { edit: StoredEdit }) {
  const { confidence, seconds, steps } = edit.report as { confidence?: number; seconds?: number; steps?: number };
  const metadata = Object.entries(edit.metadata);
  return (
    <section class="card stack" aria-label="The edit">
      {typeof edit.prompt !== "string" && edit.prompt.length > 1 && (
        <div>
          <h3>After this conversation</h3>
          <ul class="plain-list muted">
            {edit.prompt.slice(0, -1).map((message, i) => (
              <li key={i} class="text">
                {message.role}: {messageText(message)}
              </li>
            ))}
          </ul>
        </div>
      )}
      <div>
        <h3 class="muted">Answer</h3>
        <p class="text answer-text">{edit.target}</p>
      </div>
      <dl class="facts-list">
        <dt>State</dt>
        <dd>
          <State enabled={edit.enabled} />
        </dd>
        <dt>Name</dt>
        <dd class="text">{edit.id}</dd>
        <dt>Answered</dt>
        <dd>
          {edit.hits ? (
            <>
              {counted(edit.hits, "time")}, last <Ago at={edit.last_hit! * 1000} />
            </>
          ) : (
            "never yet"
          )}
        </dd>
        {typeof confidence === "number" && (
          <>
            <dt>Training</dt>
            <dd>
              at least {percent(confidence)} sure of each word of the answer
              {typeof seconds === "number" && `; took ${seconds < 1.5 ? "a second" : `${Math.round(seconds)} seconds`}`}
              {typeof steps === "number" && ` and ${counted(steps, "step")}`}
            </dd>
          </>
        )}
        {metadata.map(([name, value]) => (
          <Fragment key={name}>
            <dt class="text">{name}</dt>
            <dd class="text">{typeof value === "string" ? value : JSON.stringify(value)}</dd>
          </Fragment>
        ))}
      </dl>
    </section>
  );
}

function RemoveDialog({
  edit,
  onDone,
  onMeanwhile,
  onClose,
}: {
  edit: StoredEdit;
  onDone: (text: string) => void;
  onMeanwhile: (error: Meanwhile) => void;
  onClose: () => void;
}) {
  const remove = async () => {
    try {
      await changeEdit(edit, "DELETE");
    } catch (error) {
      if (error instanceof Meanwhile) return onMeanwhile(error);
      throw error;
    }
    onDone("Removed. Its questions get the model’s own answers again.");
  };
  return (
    <Question title="Remove this edit?" yes="Remove" danger onYes={remove} onClose={onClose}>
      <blockquote>
        <span class="text">{questionOf(edit.prompt)}</span>
        <br />
        <strong class="text">{edit.target}</strong>
      </blockquote>
      <p>
        The questions that it answers get the model’s own answers again. The history keeps it, so that you can bring it
        back.
      </p>
    </Question>
  );
}
