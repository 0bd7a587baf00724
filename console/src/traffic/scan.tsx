// A dry run: which questions of a log an edit would answer, or nearly. Nothing is generated, and nothing is kept.

import { Play, Square } from "lucide";
import { useRef, useState } from "preact/hooks";

import { post } from "../api";
import { Button } from "../components/button";
import { AreaField, SelectField } from "../components/fields";
import { ErrorLine, Note, Progress } from "../components/notes";
import { sentence, useSession } from "../session";
import type { ScanLine, ScanResult } from "../types";
import { counted } from "../words";
import type { Decision } from "./decide";
import { useEdits } from "./edits";
import { TrafficLine } from "./line";
import { type Log, type LoggedQuestion, readLog } from "./log";

/** Questions of one request: the server answers others in between, and the reader sees how far it is. */
const AT_ONCE = 64;
/** Questions of a log that are looked at, at most. */
const MOST = 10_000;
/** Findings that are shown at first, and how many more each time. */
const SHOWN = 20;
/** Lines that are no questions, of which the reader is told. */
const TOLD = 5;

type Order = "closest" | "farthest";
const ORDERS: [Order, string][] = [
  ["closest", "Closest to an edit first"],
  ["farthest", "Farthest from an edit first"],
];

interface Finding {
  question: LoggedQuestion;
  line: ScanLine;
}

interface Run {
  log: Log;
  /** How many different questions the log has; of many the first ones are tried. */
  all: number;
  done: number;
  findings: Finding[];
  stopped: boolean;
}

export function TrafficScan() {
  const [run, setRun] = useState<Run | null>(null);
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const leaving = useRef<AbortController | null>(null);

  const start = async (text: string) => {
    const log = readLog(text);
    setError("");
    setRun(null);
    if (!log.questions.length) return setError(log.problems[0] ?? "Paste some questions first, one on each line.");
    const all = log.questions.length;
    log.questions.splice(MOST);
    const stop = (leaving.current = new AbortController());
    setBusy(true);
    const state: Run = { log, all, done: 0, findings: [], stopped: false };
    setRun(state);
    try {
      for (let at = 0; at < log.questions.length && !stop.signal.aborted; at += AT_ONCE) {
        const part = log.questions.slice(at, at + AT_ONCE);
        const found = await post<ScanResult>("v1/scan", { prompts: part.map((one) => one.asked) }, {}, stop.signal);
        state.findings.push(...found.lines.map((line) => ({ line, question: part[line.index]! })));
        state.done = at + part.length;
        setRun({ ...state });
      }
    } catch (failure) {
      if (!stop.signal.aborted) setError(sentence(failure));
    }
    setRun({ ...state, stopped: state.done < log.questions.length });
    setBusy(false);
  };

  return (
    <section class="card stack" aria-labelledby="scan-title">
      <div>
        <h2 id="scan-title">Try a log</h2>
        <p class="muted">
          Paste questions that people asked before, and see which of them an edit would answer now. It is a dry run: nothing is answered, kept or changed.
        </p>
      </div>
      <LogForm busy={busy} onTry={(text) => void start(text)} onStop={() => leaving.current?.abort()} />
      <ErrorLine>{error}</ErrorLine>
      {run && run.all > MOST && (
        <Note look="warn">
          The first {MOST.toLocaleString("en")} of {counted(run.all, "question")} are tried; for all of them use:{" "}
          <code>meloedit scan</code>
        </Note>
      )}
      {busy && run && <Progress label={`${run.done} of ${counted(run.log.questions.length, "question")}`} done={run.done} total={run.log.questions.length} />}
      {run && !busy && <Result run={run} />}
    </section>
  );
}

/** The text is kept here, and read only when it is tried: a log may be long, and typing must not wait for it. */
function LogForm({ busy, onTry, onStop }: { busy: boolean; onTry: (text: string) => void; onStop: () => void }) {
  const [text, setText] = useState("");
  return (
    <form
      class="stack"
      onSubmit={(event) => {
        event.preventDefault();
        if (!busy) onTry(text);
      }}
    >
      <AreaField
        label="Questions"
        hint={
          <>
            One on each line; or lines of JSON with <code>"prompt"</code> or <code>"messages"</code>, as chat logs have them.
          </>
        }
        value={text}
        onInput={setText}
        rows={5}
      />
      <div class="actions">
        <Button type="submit" look="main" icon={Play} busy={busy}>
          Try them
        </Button>
        {busy && (
          <Button icon={Square} onClick={onStop}>
            Stop
          </Button>
        )}
      </div>
    </form>
  );
}

function Result({ run }: { run: Run }) {
  const { store } = useSession();
  const [more, setMore] = useState(1);
  const [order, setOrder] = useState<Order>("closest");
  const [decided, setDecided] = useState<Record<number, Decision>>({});
  const edits = useEdits(
    run.findings.map((one) => one.line.edit),
    store,
  );
  const fired = run.findings.filter((one) => one.line.fires).length;
  const sorted = [...run.findings].sort((one, other) => nearness(other.line) - nearness(one.line));
  if (order === "farthest") sorted.reverse();
  const { problems } = run.log;
  return (
    <div class="stack">
      <div role="status">
        <p>
          {run.stopped && `Stopped. Of ${run.log.questions.length.toLocaleString("en")}, `}
          {counted(run.done, "different question")}: edits would answer <strong>{fired}</strong>, and nearly answer{" "}
          <strong>{run.findings.length - fired}</strong>. The model answers the others by itself.
        </p>
      </div>
      {problems.length > 0 && (
        <Note look="warn">
          {problems.slice(0, TOLD).map((problem) => (
            <p key={problem}>{problem}</p>
          ))}
          {problems.length > TOLD && <p>So are {problems.length - TOLD} further lines.</p>}
        </Note>
      )}
      {sorted.length > 0 && (
        <>
          <div class="traffic-order">
            <SelectField label="Order" value={order} options={ORDERS} onChange={setOrder} />
          </div>
          <ul class="traffic-list" aria-label="Questions that edits would answer, or nearly">
            {sorted.slice(0, more * SHOWN).map(({ question, line }) => (
              <TrafficLine
                key={question.line}
                {...{ asked: question.asked, edit: line.edit, fires: line.fires, score: line.score, edits }}
                least={store?.least_score ?? null}
                decided={decided[question.line]}
                onDecided={(decision) => setDecided((before) => ({ ...before, [question.line]: decision }))}
              >
                Line {question.line} of the log{question.times > 1 && `; ${question.times} times in it`}.
              </TrafficLine>
            ))}
          </ul>
        </>
      )}
      {sorted.length > more * SHOWN && (
        <div>
          <Button onClick={() => setMore(more + 1)}>{`Show more (${sorted.length - more * SHOWN})`}</Button>
        </div>
      )}
    </div>
  );
}

/** Greater for questions that are nearer to the edit. */
function nearness({ score, distance }: ScanLine): number {
  return score ?? -1 - (distance ?? 0);
}
