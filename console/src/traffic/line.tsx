// A question beside the edit that answered it or came near, with what to do about it.

import type { ComponentChildren } from "preact";

import { Badge, Quoted } from "../components/bits";
import { link } from "../router";
import type { Asked } from "../types";
import { percent } from "../words";
import { Decide, type Decision } from "./decide";
import { type EditsById, nameOf } from "./edits";

interface Props {
  asked: Asked;
  edit: string;
  fires: boolean;
  score: number | null;
  /** The score that an edit needs; null: no comparison of texts decides here. */
  least: number | null;
  edits: EditsById;
  decided?: Decision;
  onDecided: (decision: Decision) => void;
  /** When and how often. */
  children: ComponentChildren;
}

export function TrafficLine({ asked, edit: id, fires, score, least, edits, decided, onDecided, children }: Props) {
  const edit = edits.get(id);
  return (
    <li>
      <p class="traffic-question">
        <Quoted asked={asked} /> {fires ? <Badge look="accent">Answered by an edit</Badge> : <Badge>Nearly answered</Badge>}
      </p>
      <p>
        {fires ? "The edit: " : "The closest edit: "}
        {edit === null ? nameOf(edits, id) : <a href={link("edits", id)}>{nameOf(edits, id)}</a>}
        {edit && (
          <>
            {" Its answer: "}
            <strong class="text">{edit.target}</strong>
          </>
        )}
      </p>
      <p class="muted">
        {sameness(score, least)}
        {children}
      </p>
      {edit === null ? <p class="muted">The edit was removed since.</p> : <Decide edit={id} {...{ asked, fires, decided, onDecided }} />}
    </li>
  );
}

function sameness(score: number | null, least: number | null): string {
  if (least === null) return "";
  if (score === null) return "Too far away to be compared word by word. ";
  return `Asks the same, by the comparison: ${percent(score)}; an edit answers above ${percent(least)}. `;
}
