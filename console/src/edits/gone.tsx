// An edit that is not in the store now: what became of it, and the way to bring it back.

import { Undo2 } from "lucide";
import { useState } from "preact/hooks";

import { ApiError, call, finished, get, post, UNREADABLE } from "../api";
import { Button } from "../components/button";
import { Question } from "../components/dialog";
import { Empty, ErrorLine, Loading, Note } from "../components/notes";
import { type Loaded, useLoad, useSession } from "../session";
import type { Difference, EditVersion, Job, Revision, Route } from "../types";
import { questionOf } from "../words";
import { asGone, Meanwhile } from "./changing";
import { trainAgain } from "./undo";

/** What an edit was before the change that took it out. */
export interface Former {
  version: EditVersion;
  /** The change that took it out. */
  gone: Revision;
  /** Whether that change concerned no other edit. */
  alone: boolean;
}

/** Return what an edit was; null if its latest change did not take it out, or took out too many to tell. */
export async function formerOf(id: string, latest: Revision | undefined, signal: AbortSignal): Promise<Former | null> {
  if (!latest || isThere(latest)) return null;
  const around = { old: latest.revision - 1, new: latest.revision, details: 1000 };
  const found = await get<Difference>("v1/store/diff", around, signal);
  const version = found.changes?.find((change) => change.id === id)?.old;
  const alone = new Set([...found.removed, ...found.added]).size === 1;
  return version ? { version, gone: latest, alone } : null;
}

/** Return whether an edit was in the store after a change, in a history of this edit alone. */
function isThere(change: Revision): boolean {
  return change.edits.some((edit) => edit.present);
}

interface Props {
  id: string;
  /** The edit's latest change; undefined: there never was any. */
  latest: Revision | undefined;
  former: Loaded<Former | null>;
  onDone: (done: string) => void;
  /** Somebody else brought it back first. */
  onMeanwhile: (error: Meanwhile) => void;
}

export function Gone({ id, latest, former, onDone, onMeanwhile }: Props) {
  const [asking, setAsking] = useState(false);
  if (latest && isThere(latest)) return <ErrorLine>{UNREADABLE}</ErrorLine>;
  return (
    <>
      <Empty title="This edit is not in the store now">
        <p>{latest ? whatBecame(latest) : "There never was one of this name."}</p>
        {latest && former.loading && <Loading />}
        {former.data && (
          <>
            <p>
              Its answer was <strong class="text">{former.data.version.target}</strong>
            </p>
            <Button look="main" icon={Undo2} onClick={() => setAsking(true)}>
              Bring it back
            </Button>
          </>
        )}
        {latest && !former.data && !former.loading && (
          <p>To bring it back, go back to revision {latest.revision - 1} on the page History.</p>
        )}
      </Empty>
      {asking && former.data && (
        <BringBack {...{ id, onDone, onMeanwhile }} former={former.data} onClose={() => setAsking(false)} />
      )}
    </>
  );
}

function whatBecame(latest: Revision): string {
  if (latest.action === "remove") return "It was removed. Below is its history.";
  if (latest.action === "rollback") {
    return `The store went back to revision ${String(latest.detail.to)}, in which it was not there. Below is its history.`;
  }
  return "Another edit took its place. Below is its history.";
}

interface BackProps extends Pick<Props, "id" | "onDone" | "onMeanwhile"> {
  former: Former;
  onClose: () => void;
}

function BringBack({ id, former, onDone, onMeanwhile, onClose }: BackProps) {
  const { store, refresh } = useSession();
  const { version, gone, alone } = former;
  const latest = alone && store?.revision === gone.revision; // then it comes back as it was, without training
  const answers = useLoad((signal) => answering(version, signal), [store?.revision]);
  const bring = async () => {
    try {
      if (latest) {
        const body = { to: gone.revision - 1 };
        await finished(await call<Job>("POST", "v1/store/rollback", { body, revision: gone.revision }));
      } else {
        await asGone(id, async (at) => {
          if ((await answering(version)) !== answers.data) throw new ApiError(412, LOOK);
          await trainAgain(id, version, at);
        });
      }
    } catch (error) {
      if (error instanceof Meanwhile) return onMeanwhile(error);
      void refresh(); // what the question says is then true again
      if (error instanceof ApiError && error.code === "revision") throw new Error(LOOK);
      throw error;
    }
    await refresh();
    onDone("The edit is back.");
  };
  return (
    <Question
      title="Bring this edit back?"
      yes="Bring it back"
      disabled={answers.loading || answers.error !== ""}
      onYes={bring}
      onClose={onClose}
    >
      <blockquote>
        <span class="text">{questionOf(version.prompt)}</span>
        <br />
        <strong class="text">{version.target}</strong>
      </blockquote>
      <p>
        {latest
          ? "It answers again as before."
          : "It is trained again, to give the same answer as before. This takes some seconds."}{" "}
        {answers.data === null && "All other edits stay as they are."}
      </p>
      <ErrorLine>{answers.error}</ErrorLine>
      {answers.data && (
        <Note look="warn">
          The edit <strong class="text">{answers.data}</strong> answers this question now. If it asks the same, this one
          takes its place.
        </Note>
      )}
    </Question>
  );
}

const LOOK = "The edits changed meanwhile, so nothing was done. What is said above is true now: look again.";

/** Return the name of the edit that answers a former edit's question now; null if none does. */
async function answering(version: EditVersion, signal?: AbortSignal): Promise<string | null> {
  return (await post<Route>("v1/route", { prompt: version.prompt }, {}, signal)).edit;
}
