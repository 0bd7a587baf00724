// Kept questions that came near an edit, from either side, until somebody decides; and those that edits answered.

import { useMemo, useState } from "preact/hooks";

import { get } from "../api";
import { Ago } from "../components/bits";
import { Button } from "../components/button";
import { ErrorLine, Loading, Note } from "../components/notes";
import { useLoad, useSession } from "../session";
import type { Asked, PromptLine, PromptPage } from "../types";
import { same } from "../words";
import type { Decision } from "./decide";
import { type EditsById, useEdits } from "./edits";
import { TrafficLine } from "./line";

/** Questions that are read, of each side, at most: the latest. */
const READ = 300;
/** How many are shown at first, and how many more each time. */
const SHOWN = 8;
/** A question is a near one if the odds for it are within this factor of what an edit needs, as on the server. */
const NEAR_ODDS = 20;

interface Asking {
  key: string;
  line: PromptLine;
  times: number;
}

export function TrafficNear() {
  const { store } = useSession();
  const [view, setView] = useState<"near" | "answered">("near");
  const [more, setMore] = useState(1);
  const [decided, setDecided] = useState<Record<string, Decision>>({});
  const { data, error, loading } = useLoad(
    async (signal) => {
      const [near, fired] = await Promise.all([true, false].map((of) => get<PromptPage>("v1/store/prompts", { near: of, limit: READ }, signal)));
            const closest = gathered(near!.data).sort((one, other) => (other.line.score ?? -1) - (one.line.score ?? -1));
      return { kept: near!.kept, near: closest, fired: gathered(fired!.data) };
    },
    [store?.revision],
  );
  const least = store?.least_score ?? null;
  const all = useMemo(() => (data ? [...data.near, ...data.fired.filter((one) => isDoubtful(one.line, least))] : []), [data, least]);
  const shown = view === "near" ? all : (data?.fired ?? []);
  const edits = useEdits(
    [...all, ...(data?.fired ?? [])].map((one) => one.line.edit),
    store?.revision,
  );
  const open = (list: Asking[]) => list.filter((one) => decided[one.key] || !isSettled(one.line, edits));
  const listed = open(shown);

  return (
    <section class="card stack" aria-labelledby="near-title">
      <div class="traffic-head">
        <div>
          <h2 id="near-title">Questions to look at</h2>
          <p class="muted">
            These came close to an edit, so a person should say whether they ask the same. What you decide holds at once; nothing is trained.
          </p>
        </div>
        {data?.kept && (
          <div class="actions" role="group" aria-label="Which questions">
            <Button pressed={view === "near"} onClick={() => (setView("near"), setMore(1))}>
              {`Unsure (${open(all).filter((one) => !decided[one.key]).length})`}
            </Button>
            <Button pressed={view === "answered"} onClick={() => (setView("answered"), setMore(1))}>
              {`Answered by edits (${open(data.fired).filter((one) => !decided[one.key]).length})`}
            </Button>
          </div>
        )}
      </div>
      <ErrorLine>{error}</ErrorLine>
      {!data && loading && <Loading />}
      {data && !data.kept && (
        <Note>
          This server does not keep what people ask. Started with <code>--keep-prompts 7</code> it keeps, for seven days, the questions that an edit answered or nearly answered.
        </Note>
      )}
      {data?.kept && !listed.length && (
        <p class="muted">{view === "near" ? "There is nothing to decide: no question came close without being clear." : "No edit has answered a question yet."}</p>
      )}
      {listed.length > 0 && (
        <ul class="traffic-list">
          {listed.slice(0, more * SHOWN).map((one) => (
            <TrafficLine
              key={one.key}
              {...{ asked: one.line.prompt, edit: one.line.edit, fires: one.line.fired, score: one.line.score, edits, least }}
              past
              decided={decided[one.key]}
              onDecided={(decision) => setDecided((before) => ({ ...before, [one.key]: decision }))}
            >
              Asked {one.times > 1 && `${one.times} times, last `}
              <Ago at={one.line.time * 1000} />.
            </TrafficLine>
          ))}
        </ul>
      )}
      {listed.length > more * SHOWN && (
        <div>
          <Button onClick={() => setMore(more + 1)}>{`Show more (${listed.length - more * SHOWN})`}</Button>
        </div>
      )}
    </section>
  );
}

/** Return each question once, with how often it was asked; the latest comes first, and says how it went. */
function gathered(lines: PromptLine[]): Asking[] {
  const found = new Map<string, Asking>();
  for (const line of lines) {
    const key = JSON.stringify([line.edit, line.prompt]);
    const before = found.get(key);
    if (before) before.times += 1;
    else found.set(key, { key, line, times: 1 });
  }
  return [...found.values()];
}

function odds(probability: number): number {
  return probability / Math.max(1 - probability, 1e-12);
}

/** Return whether an edit answered a question only just. */
function isDoubtful(line: PromptLine, least: number | null): boolean {
  return line.score !== null && least !== null && odds(line.score) <= NEAR_ODDS * odds(least);
}

/** Return whether somebody decided about a question before: the edit has it among its own. */
function isSettled(line: PromptLine, edits: EditsById): boolean {
  const edit = edits.get(line.edit);
  if (!edit) return false;
  return [edit.prompt, ...edit.variants, ...edit.quiet].some((prompt) => same(plain(prompt), plain(line.prompt)));
}

/** Return a question without the form of a chat, where it is a single message. */
function plain(asked: Asked): Asked {
  const [only, second] = typeof asked === "string" ? [] : asked;
  return only && !second && typeof only.content === "string" ? only.content.trim() : asked;
}
