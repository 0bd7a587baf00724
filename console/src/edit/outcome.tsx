// How saving an edit stands: under way, saved, or not saved and what can be done.

import { MessageCircle, Plus, Square } from "lucide";
import { useEffect, useState } from "preact/hooks";

import { editPath, post, readEdit } from "../api";
import { Button } from "../components/button";
import { ErrorLine, Note, Progress } from "../components/notes";
import { link } from "../router";
import { sentence, useLoad } from "../session";
import type { EditReport, Job, StoredEdit } from "../types";
import { counted, percent, questionOf } from "../words";
import type { Saving } from "./saving";
import { TrialResult } from "./trial";

interface Props {
  saving: Saving;
  onStop: () => void;
  onWay: (way: "replace" | "both") => void;
  onAsk: (question: string) => void;
  onAnother: () => void;
  /** Begin again from the edit as it is now, or save what is written all the same. */
  onAgain: (now: StoredEdit) => void;
  onStill: (now: StoredEdit | null) => void;
  /** The edit that is changed. */
  changed: string;
}

export function Outcome({ saving, onStop, onWay, onAsk, onAnother, onAgain, onStill, changed }: Props) {
  const { job, report, error, ways, meanwhile } = saving;
  return (
    <>
      {meanwhile && <Overtaken now={meanwhile.now} {...{ onAgain, onStill, changed }} />}
      {ways.length > 0 && (
        <p>
          <strong>Nothing was saved:</strong> another edit seems to ask the same, and has another answer. What shall
          become of it?
        </p>
      )}
      <ErrorLine>{error}</ErrorLine>
      {ways.length > 0 && (
        <div class="actions">
          {ways.includes("replace") && <Button onClick={() => onWay("replace")}>Put it in that one’s place</Button>}
          {ways.includes("both") && <Button onClick={() => onWay("both")}>Keep both: they ask different things</Button>}
        </div>
      )}
      {job && !report && <Training job={job} onStop={onStop} />}
      {report && <Result report={report} onAsk={onAsk} onAnother={onAnother} />}
    </>
  );
}

function Overtaken({
  now,
  onAgain,
  onStill,
  changed,
}: { now: StoredEdit | null } & Pick<Props, "onAgain" | "onStill" | "changed">) {
  return (
    <div class="stack">
      <div role="alert">
        <Note look="warn">
          <strong>Nothing was saved:</strong> somebody {now ? "changed" : "removed"} this edit while you wrote.
          {now && " It is now:"}
        </Note>
      </div>
      {now && (
        <blockquote>
          <span class="text">{questionOf(now.prompt)}</span>
          <br />
          <strong class="text">{now.target}</strong>
          {!now.enabled && <p class="muted">(switched off)</p>}
        </blockquote>
      )}
      <div class="actions">
        {now && (
          <Button look="main" onClick={() => onAgain(now)}>
            Begin again from that
          </Button>
        )}
        <Button onClick={() => onStill(now)}>{now ? "Save mine in its place" : "Save mine all the same"}</Button>
        <a class="button plain" href={link("edits", changed)}>
          See who did what
        </a>
      </div>
    </div>
  );
}

const STEPS: Record<string, string> = {
  checking: "Checking the edit",
  editing: "Training: the model practises the answer until it gives it every time",
  calibrating: "Getting ready: measuring what your questions have in common",
};

function Training({ job, onStop }: { job: Job; onStop: () => void }) {
  const [seconds, setSeconds] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setSeconds((before) => before + 1), 1000);
    return () => clearInterval(timer);
  }, []);
  const step = job.state === "queued" ? "Waiting for its turn" : (STEPS[job.step] ?? (job.step || "Starting"));
  return (
    <div class="stack">
      <Progress label={`${step} …`} done={job.total > 1 ? job.done : undefined} total={job.total} />
      <div class="actions">
        <span class="muted">{counted(seconds, "second")} so far. Answers go on meanwhile.</span>
        <Button look="quiet" icon={Square} onClick={onStop}>
          Stop
        </Button>
      </div>
    </div>
  );
}

function Result({
  report,
  onAsk,
  onAnother,
}: {
  report: EditReport;
  onAsk: (question: string) => void;
  onAnother: () => void;
}) {
  const failed = report.status === "failed";
  const edit = useLoad(
    (signal) => (failed ? Promise.resolve(null) : readEdit(report.id, signal)),
    [report.id],
  );
  return (
    <div class="stack">
      {edit.data && (
        <blockquote>
          <span class="text">{questionOf(edit.data.prompt)}</span>
          <br />
          <strong class="text">{edit.data.target}</strong>
        </blockquote>
      )}
      <div role="status">
        <Note look={failed ? "bad" : "good"}>{said(report)}</Note>
      </div>
      {report.status === "stored" && report.trial?.warned && <Reached report={report} />}
      <div class="actions">
        {edit.data && (
          <>
            <Button look="main" icon={MessageCircle} onClick={() => onAsk(questionOf(edit.data!.prompt))}>
              Ask it
            </Button>
            <a class="button plain" href={link("edits", report.id)}>
              See this edit
            </a>
          </>
        )}
        <Button icon={Plus} onClick={onAnother}>
          {failed ? "Change it and try again" : "Write another one"}
        </Button>
      </div>
    </div>
  );
}

/** The other questions that a saved edit would answer: it can still be told to stay silent on them. */
function Reached({ report }: { report: EditReport }) {
  const [settled, setSettled] = useState<string[]>([]);
  const [error, setError] = useState("");
  const settle = async (action: "quiet" | "allow", prompts: string[]) => {
    try {
      await post(editPath(report.id, `/${action}`), { prompts });
      setSettled((before) => [...before, ...prompts]);
      setError("");
    } catch (failure) {
      setError(sentence(failure));
    }
  };
  const trial = report.trial!;
  const left = trial.neighbours.filter(
    (one) => one.fires && !trial.silenced.includes(one.prompt) && !settled.includes(one.prompt),
  );
  if (!left.length) return null;
  return (
    <>
      <ErrorLine>{error}</ErrorLine>
      <TrialResult
        trial={{ ...trial, neighbours: left, silenced: [] }}
        onQuiet={(prompts) => void settle("quiet", prompts)}
        onSame={(prompt) => void settle("allow", [prompt])}
      />
    </>
  );
}

function said(report: EditReport) {
  if (report.status === "failed") {
    return (
      <>
        <strong>Not saved.</strong> {report.reason}. A shorter answer, or fewer ways to ask, may help.
      </>
    );
  }
  if (report.status === "skipped") {
    return (
      <>
        <strong>This edit was saved before</strong>, so nothing has changed. {report.reason}
      </>
    );
  }
  const remarks = [
    report.replaced.length > 0 && `It took the place of ${report.replaced.join(", ")}.`,
    report.corrections > 0 &&
      `It took over ${counted(report.corrections, "wording or silent question", "wordings and silent questions")}.`,
    report.overlaps.length > 0 &&
      `Some questions are near both to it and to ${report.overlaps.join(", ")}: the nearer one answers.`,
    report.reason,
  ];
  return (
    <>
      <strong>Saved.</strong> The model gives this answer in every way to ask that was tried
      {report.confidence !== null && `, and is at least ${percent(report.confidence)} sure of each word of it`}. It took{" "}
      {report.seconds < 1.5 ? "a second" : `${Math.round(report.seconds)} seconds`}. {remarks.filter(Boolean).join(" ")}
    </>
  );
}
