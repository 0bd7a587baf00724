// Kept questions that came near an edit, from either side, until somebody decides; and those that edits answered.

import { useState } from "preact/hooks";

import { get, post } from "../api";
import { Ago } from "../components/bits";
import { Button } from "../components/button";
import { ErrorLine, Loading, Note } from "../components/notes";
import { useLoad, useSession } from "../session";
import type { Asked, PromptLine, PromptPage, ScanResult } from "../types";
import { same } from "../words";
import type { Decision } from "./decide";
import { type EditsById, useEdits } from "./edits";
import { TrafficLine } from "./line";

/** Questions that are read, of each side, at most: the latest. */
const READ = 300;
/** Of those that may be unsure so many are looked at again: edits may have changed since they were asked. */
const AGAIN = 64;
/** How many are shown at first, and how many more each time. */
const SHOWN = 8;
/** A question is a near one if the odds for it are within this factor of what an edit needs, as on the server. */
const NEAR_ODDS = 20;

interface Asking {
  key: string;
  asked: Asked;
  edit: string;
  fires: boolean;
  score: number | null;
  /** When it came last, in seconds since 1970. */
  time: number;
  times: number;
}

interface Kept {
  kept: boolean;
  unsure: Asking[];
  answered: Asking[];
}

async function load(least: number | null, signal: AbortSignal): Promise<Kept> {
  const [near, fired] = await Promise.all([true, false].map((of) => get<PromptPage>("v1/store/prompts", { near: of, limit: READ }, signal)));
  const answered = gathered(fired!.data);
  const candidates = [...gathered(near!.data), ...answered.filter((one) => isDoubtful(one, least))].slice(0, AGAIN);
  if (!candidates.length) return { kept: near!.kept, unsure: [], answered };
  const { lines } = await post<ScanResult>("v1/scan", { prompts: candidates.map((one) => one.asked) }, {}, signal);
  const now = lines.map((line) => ({ ...candidates[line.index]!, edit: line.edit, fires: line.fires, score: line.score }));
  const unsure = now.filter((one) => !one.fires || isDoubtful(one, least));
  unsure.sort((one, other) => unsureness(other, least) - unsureness(one, least));
  return { kept: near!.kept, unsure: unique(unsure), answered };
}

export function TrafficNear() {
  const { store } = useSession();
  const known = store !== null;
  const least = store?.least_score ?? null;
  const [view, setView] = useState<"unsure" | "answered">("unsure");
  const [more, setMore] = useState(1);
  const [decided, setDecided] = useState<Record<string, Decision>>({});
  // Not again with each revision: what was decided stays where it is, and says so.
  const { data, error, loading } = useLoad(async (signal) => (known ? load(least, signal) : null), [known, least]);
  const edits = useEdits(
    [...(data?.unsure ?? []), ...(data?.answered ?? [])].map((one) => one.edit),
    store,
  );
  const open = (list: Asking[]) => list.filter((one) => decided[one.key] || !isSettled(one, edits));
  const count = (list: Asking[]) => open(list).filter((one) => !decided[one.key]).length;
  const listed = data ? open(data[view]) : [];
  const show = (wanted: typeof view) => {
    setView(wanted);
    setMore(1);
  };

  return (
    <section class="card stack" aria-labelledby="near-title">
      <div class="traffic-head">
        <div>
          <h2 id="near-title">Questions to look at</h2>
          <p class="muted">
            These come close to an edit, so a person should say whether they ask the same. What you decide holds at once; nothing is trained.
          </p>
        </div>
        {data?.kept && (
          <div class="actions" role="group" aria-label="Which questions">
            <Button pressed={view === "unsure"} onClick={() => show("unsure")}>
              {`Unsure (${count(data.unsure)})`}
            </Button>
            <Button pressed={view === "answered"} onClick={() => show("answered")}>
              {`Answered by edits (${count(data.answered)})`}
            </Button>
          </div>
        )}
      </div>
      <ErrorLine>{error}</ErrorLine>
      {!data && loading && <Loading />}
      {data && !data.kept && (
        <Note>
          This server does not keep what people ask. Started with <code>--keep-prompts 7</code> it keeps, for seven days, the questions that an edit
          answered or nearly answered.
        </Note>
      )}
      {data?.kept && !listed.length && (
        <p class="muted">{view === "unsure" ? "There is nothing to decide: no question came close without being clear." : "No edit has answered a question yet."}</p>
      )}
      {listed.length > 0 && (
        <ul class="traffic-list">
          {listed.slice(0, more * SHOWN).map((one) => (
            <TrafficLine
              key={one.key}
              {...{ asked: one.asked, edit: one.edit, fires: one.fires, score: one.score, edits, least }}
              decided={decided[one.key]}
              onDecided={(decision) => setDecided((before) => ({ ...before, [one.key]: decision }))}
            >
              Asked {one.times > 1 && `${one.times} times, last `}
              <Ago at={one.time * 1000} />.
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

/** Return each question once for each edit, with how often it was asked; the latest time says how it went. */
function gathered(lines: PromptLine[]): Asking[] {
  const found = new Map<string, Asking>();
  for (const { edit, prompt, fired, score, time } of lines) {
    const key = JSON.stringify([edit, prompt]);
    const before = found.get(key);
    if (before) before.times += 1;
    else found.set(key, { key, asked: prompt, edit, fires: fired, score, time, times: 1 });
  }
  return [...found.values()];
}

/** Return each question once: what it came near to before may have been another edit. */
function unique(list: Asking[]): Asking[] {
  return list.filter((one, i) => list.findIndex((other) => same(plain(other.asked), plain(one.asked))) === i);
}

function odds(probability: number): number {
  return probability / Math.max(1 - probability, 1e-12);
}

/** Return a number that is greater for questions nearer to the border between answered and not. */
function unsureness({ score }: Asking, least: number | null): number {
  return score === null || least === null ? -1e9 : -Math.abs(Math.log(odds(score) / odds(least)));
}

/** Return whether an edit answers a question only just. */
function isDoubtful({ fires, score }: Asking, least: number | null): boolean {
  return fires && score !== null && least !== null && odds(score) <= NEAR_ODDS * odds(least);
}

/** Return whether somebody decided about a question before: the edit has it among its own. */
function isSettled({ edit: id, asked }: Asking, edits: EditsById): boolean {
  const edit = edits.get(id);
  if (!edit) return false;
  return [edit.prompt, ...edit.variants, ...edit.quiet].some((prompt) => same(plain(prompt), plain(asked)));
}

/** Return a question without the form of a chat, where it is a single message. */
function plain(asked: Asked): Asked {
  const [only, second] = typeof asked === "string" ? [] : asked;
  return only && !second && typeof only.content === "string" ? only.content.trim() : asked;
}
