// Going back to a revision: first what that would change, then the question.

import type { ComponentChildren } from "preact";

import { call, finished, get } from "../api";
import { Question } from "../components/dialog";
import { ErrorLine, Loading } from "../components/notes";
import { useLoad, useSession } from "../session";
import type { Difference, Job } from "../types";
import { Changes } from "./changes";

interface Props {
  /** The revision to go back to. */
  to: number;
  title?: string;
  /** What the button says. */
  yes?: string;
  /** What is special about it. */
  children?: ComponentChildren;
  onDone: (done: string) => void;
  onClose: () => void;
}

export function RollbackDialog({ to, title, yes = "Go back", children, onDone, onClose }: Props) {
  const { store, refresh } = useSession();
  const now = store?.revision ?? to;
  const difference = useLoad(
    (signal) => get<Difference>("v1/store/diff", { old: now, new: to, details: 50 }, signal),
    [now, to],
  );
  const roll = async () => {
    await finished(await call<Job>("POST", "v1/store/rollback", { body: { to }, revision: now }));
    await refresh();
    onDone(`Done: the edits are those of revision ${to} again. This can be undone, too.`);
  };
  return (
    <Question
      title={title ?? `Go back to revision ${to}?`}
      yes={yes}
      danger
      disabled={!difference.data}
      onYes={roll}
      onClose={onClose}
      wide
    >
      {children}
      <p>
        These edits would change. Nothing is lost: the history keeps what is there now, and you can go forward again.
      </p>
      <ErrorLine>{difference.error}</ErrorLine>
      {difference.data ? <Changes difference={difference.data} /> : !difference.error && <Loading />}
    </Question>
  );
}
