// History: every change with who and when, the difference of two revisions, and the way back.

import { GitCompare, Undo2 } from "lucide";
import { useState } from "preact/hooks";

import { get } from "../api";
import { PageHead } from "../components/bits";
import { Button } from "../components/button";
import { Dialog } from "../components/dialog";
import { Empty, ErrorLine, Loading, StatusLine } from "../components/notes";
import { Changes } from "../history/changes";
import { RollbackDialog } from "../history/rollback";
import { Timeline } from "../history/timeline";
import { sentence, useLoad, useSession } from "../session";
import type { Difference, HistoryPage, Revision } from "../types";

/** Revisions that are shown at first, and further ones at a time. */
const PAGE = 30;

export function History() {
  const session = useSession();
  const now = session.store?.revision;
  const first = useLoad((signal) => get<HistoryPage>("v1/store/history", { limit: PAGE }, signal), [now]);
  const [older, setOlder] = useState<Revision[]>([]);
  const [error, setError] = useState("");
  const [chosen, setChosen] = useState<number[]>([]);
  const [comparing, setComparing] = useState(false);
  const [back, setBack] = useState<number | null>(null);
  const [done, setDone] = useState("");
  const newest = first.data?.data ?? [];
  const least = newest[newest.length - 1]?.revision ?? 1;
  const revisions = [...newest, ...older.filter((one) => one.revision < least)];
  const last = revisions[revisions.length - 1]?.revision ?? 1;
  const more = async () => {
    try {
      const page = await get<HistoryPage>("v1/store/history", { limit: PAGE, before: last });
      setOlder((before) => [...before.filter((one) => one.revision >= last), ...page.data]);
      setError("");
    } catch (failure) {
      setError(sentence(failure));
    }
  };
  const choose = (revision: number) =>
    setChosen((before) =>
      before.includes(revision) ? before.filter((one) => one !== revision) : [...before, revision].slice(-2),
    );
  return (
    <>
      <PageHead
        title="History"
        actions={
          <Button icon={GitCompare} disabled={chosen.length !== 2} onClick={() => setComparing(true)}>
            {chosen.length === 2 ? `Compare ${Math.min(...chosen)} and ${Math.max(...chosen)}` : "Compare two"}
          </Button>
        }
      >
        Each change is a revision. You can go back to any of them, and forward again. To compare two, tick them.
      </PageHead>
      <StatusLine>{done}</StatusLine>
      <ErrorLine>{first.error || error}</ErrorLine>
      {!first.data && first.loading && <Loading />}
      {first.data && !revisions.length && <Empty title="Nothing has happened yet" />}
      {revisions.length > 0 && (
        <div class="card">
          <Timeline
            label="Changes, the latest first"
            revisions={revisions}
            linked
            actions={(revision) => (
              <>
                {revision.revision !== now && (
                  <Button
                    look="quiet"
                    icon={Undo2}
                    onClick={() => setBack(revision.revision)}
                    label={`Go back to revision ${revision.revision}`}
                  >
                    Go back to this
                  </Button>
                )}
                {revision.revision === now && <span class="badge accent">now</span>}
                <label class="check">
                  <input
                    type="checkbox"
                    checked={chosen.includes(revision.revision)}
                    onChange={() => choose(revision.revision)}
                  />
                  <span>
                    Compare<span class="unseen"> revision {revision.revision}</span>
                  </span>
                </label>
              </>
            )}
          />
          {last > 1 && (
            <div class="actions more">
              <Button onClick={() => void more()}>Show older changes</Button>
            </div>
          )}
        </div>
      )}
      {back !== null && (
        <RollbackDialog to={back} onDone={(text) => (setDone(text), setChosen([]))} onClose={() => setBack(null)} />
      )}
      {comparing && chosen.length === 2 && (
        <Compare old={Math.min(...chosen)} now={Math.max(...chosen)} onClose={() => setComparing(false)} />
      )}
    </>
  );
}

function Compare({ old, now, onClose }: { old: number; now: number; onClose: () => void }) {
  const difference = useLoad(
    (signal) => get<Difference>("v1/store/diff", { old, new: now, details: 200 }, signal),
    [old, now],
  );
  return (
    <Dialog title={`From revision ${old} to ${now}`} onClose={onClose} wide>
      <ErrorLine>{difference.error}</ErrorLine>
      {difference.data ? <Changes difference={difference.data} /> : !difference.error && <Loading />}
    </Dialog>
  );
}
