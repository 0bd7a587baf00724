// What the trial of an edit found: other questions that would get its answer, too.

import { BellOff, Plus } from "lucide";

import { Badge } from "../components/bits";
import { Button } from "../components/button";
import { Note } from "../components/notes";
import type { Trial, TriedNeighbour } from "../types";
import { counted, percent } from "../words";
import { isBeginning } from "./beginning";

const KINDS: Record<string, string> = {
  "other question": "another question",
  opposite: "the opposite",
  number: "another number",
  negation: "with a “not”",
  qualifier: "a narrower question",
  "other name": "another name",
};

interface Props {
  trial: Trial;
  onQuiet?: (prompts: string[]) => void;
  onSame?: (prompt: string) => void;
}

export function TrialResult({ trial, onQuiet, onSame }: Props) {
  const reached = trial.neighbours.filter((one) => one.fires && !trial.silenced.includes(one.prompt));
  const others = trial.neighbours.filter((one) => !one.fires);
  if (!trial.asked) return <Note>No similar questions could be tried: nothing compares questions in this store.</Note>;
  return (
    <div class="stack">
      {reached.length === 0 ? (
        <Note look="good">
          {counted(trial.asked, "similar question")} tried: none of them would wrongly get this answer.
        </Note>
      ) : (
        <>
          <Note look="warn">
            <strong>This edit would also answer {counted(reached.length, "other question")}</strong> of the{" "}
            {trial.asked} that were tried. {reached.length === 1 ? "Does it" : "Do they"} ask the same?
          </Note>
          <ul class="neighbours">
            {reached.map((one) => (
              <li key={one.prompt}>
                <Neighbour one={one} />
                {onQuiet && onSame && (
                  <div class="actions">
                    <Button
                      look="plain"
                      icon={BellOff}
                      onClick={() => onQuiet([one.prompt])}
                      label={`No, keep silent on: ${one.prompt}`}
                    >
                      No, keep silent
                    </Button>
                    <Button
                      look="quiet"
                      icon={Plus}
                      onClick={() => onSame(one.prompt)}
                      label={`Yes, it asks the same: ${one.prompt}`}
                    >
                      Yes, the same
                    </Button>
                  </div>
                )}
              </li>
            ))}
          </ul>
          {onQuiet && reached.length > 1 && (
            <div>
              <Button look="quiet" icon={BellOff} onClick={() => onQuiet(reached.map((one) => one.prompt))}>
                Keep silent on all {reached.length}
              </Button>
            </div>
          )}
        </>
      )}
      {trial.silenced.length > 0 && (
        <div>
          <p>On these it stays silent by itself, since one word makes them another question:</p>
          <ul class="plain-list muted">
            {trial.silenced.map((prompt) => (
              <li key={prompt} class="text">
                {shown(prompt)}
                {isBeginning(prompt) && " (beginning of a sentence)"}
              </li>
            ))}
          </ul>
        </div>
      )}
      {others.length > 0 && (
        <details>
          <summary>{counted(others.length, "question")} that would not get this answer</summary>
          <ul class="neighbours muted">
            {others.map((one) => (
              <li key={one.prompt}>
                <Neighbour one={one} />
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

function shown(prompt: string): string {
  return isBeginning(prompt) ? `${prompt.trimEnd()} …` : prompt;
}

function Neighbour({ one }: { one: TriedNeighbour }) {
  return (
    <p>
      <span class="text">{shown(one.prompt)}</span> {isBeginning(one.prompt) && <Badge>beginning of a sentence</Badge>}{" "}
      <Badge>{KINDS[one.kind] ?? one.kind}</Badge>{" "}
      <span class="muted">{percent(one.score)} alike</span>
    </p>
  );
}
