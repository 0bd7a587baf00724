// What the chosen point is: an edit with its answer and the questions that it answered, or a question and why.

import { Ago, Quoted, State } from "../components/bits";
import { link } from "../router";
import { counted, percent } from "../words";
import { KINDS, type MapPrompt, type Point, whyOf } from "./points";

interface Props {
  point: Point;
  points: Point[];
  onChoose: (key: string) => void;
}

export function MapDetail({ point, points, onChoose }: Props) {
  return point.edit ? <EditDetail {...{ point, points, onChoose }} /> : <QuestionDetail {...{ point, points, onChoose }} />;
}

/** Questions of an edit that are listed, at most. */
const LISTED = 8;

function EditDetail({ point, points, onChoose }: Props) {
  const edit = point.edit!;
  const answered = points.filter((one) => one.prompt?.edit === edit.id);
  return (
    <div class="stack tight">
      <h2>
        <Quoted asked={edit.prompt} />
      </h2>
      <p>
        Answer: <strong class="text">{edit.target}</strong>
      </p>
      <p>
        <State enabled={edit.enabled} /> <a href={link("edits", edit.id)}>Open this edit</a>
      </p>
      {answered.length > 0 && (
        <>
          <h3>{counted(answered.length, "question")} on the map got this answer</h3>
          <ul class="map-links">
            {answered.slice(0, LISTED).map((one) => (
              <li key={one.key}>
                <button type="button" class="map-link" onClick={() => onChoose(one.key)}>
                  {one.text}
                </button>
              </li>
            ))}
          </ul>
          {answered.length > LISTED && <p class="muted">and {answered.length - LISTED} more</p>}
        </>
      )}
    </div>
  );
}

function QuestionDetail({ point, points, onChoose }: Props) {
  const prompt = point.prompt!;
  const id = prompt.edit ?? prompt.nearest;
  const edit = points.find((one) => one.edit && one.edit.id === id);
  return (
    <div class="stack tight">
      <p class="muted">{prompt.source === "posted" ? "Your question" : KINDS[point.kind].replace("Questions that", "A question that")}</p>
      <h2>
        <Quoted asked={prompt.prompt} />
      </h2>
      <p>{whyOf(prompt)}</p>
      {id !== null && (
        <p>
          {prompt.edit === null ? "The closest edit: " : "The edit: "}
          {edit ? (
            <button type="button" class="map-link" onClick={() => onChoose(edit.key)}>
              {edit.text}
            </button>
          ) : (
            <a href={link("edits", id)}>{id}</a>
          )}
          {edit && <span class="muted"> (answer: {edit.edit!.target})</span>}
        </p>
      )}
      <Facts prompt={prompt} />
    </div>
  );
}

function Facts({ prompt }: { prompt: MapPrompt }) {
  return (
    <p class="muted">
      {prompt.score !== null && `Asks the same, by the comparison: ${percent(prompt.score)}. `}
      {prompt.time !== null && (
        <>
          Asked {prompt.times > 1 && `${prompt.times} times, `}
          <Ago at={prompt.time * 1000} />.
        </>
      )}
    </p>
  );
}
