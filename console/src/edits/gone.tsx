// An edit that is not in the store now: what became of it, and the way to bring it back.

import { Undo2 } from "lucide";
import { useState } from "preact/hooks";

import { call, finished, get, UNREADABLE } from "../api";
import { Button } from "../components/button";
import { Question } from "../components/dialog";
import { Empty, ErrorLine, Loading } from "../components/notes";
import { type Loaded, useSession } from "../session";
import type { Difference, EditVersion, Job, Revision } from "../types";
import { questionOf } from "../words";
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
}

export function Gone({ id, latest, former, onDone }: Props) {
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
        <BringBack id={id} former={former.data} onDone={onDone} onClose={() => setAsking(false)} />
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

interface BackProps {
  id: string;
  former: Former;
  onDone: (done: string) => void;
  onClose: () => void;
}

function BringBack({ id, former, onDone, onClose }: BackProps) {
  const { store, refresh } = useSession();
  const { version, gone, alone } = former;
  const latest = alone && store?.revision === gone.revision; // then it comes back as it was, without training
  const bring = async () => {
    if (latest) {
      const body = { to: gone.revision - 1 };
      await finished(await call<Job>("POST", "v1/store/rollback", { body, revision: gone.revision }));
    } else await trainAgain(id, version);
    await refresh();
    onDone("The edit is back.");
  };
  return (
    <Question title="Bring this edit back?" yes="Bring it back" onYes={bring} onClose={onClose}>
      <blockquote>
        <span class="text">{questionOf(version.prompt)}</span>
        <br />
        <strong class="text">{version.target}</strong>
      </blockquote>
      <p>
        {latest
          ? "It answers again as before."
          : "It is trained again, to give the same answer as before. This takes some seconds."}{" "}
        All other edits stay as they are.
      </p>
    </Question>
  );
}
