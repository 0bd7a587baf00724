// What /v1/store/map returns, and the points of the map as the page works with them.

import type { Asked, Reason } from "../types";
import { questionOf } from "../words";

export interface MapPlace {
  x: number;
  y: number;
}

export interface MapEdit extends MapPlace {
  id: string;
  prompt: Asked;
  target: string;
  enabled: boolean;
  /** How far its scope reaches; null on a map on which distances mean too little. */
  radius: number | null;
  wordings: MapPlace[];
}

export interface MapPrompt {
  source: "kept" | "posted";
  prompt: Asked;
  x: number | null;
  y: number | null;
  edit: string | null;
  nearest: string | null;
  reason: Reason;
  score: number | null;
  time: number | null;
  times: number;
}

/** How a map is drawn: so that distances are as true as they can be, or so that what is alike lies together. */
export type Projection = "pca" | "umap";

export interface MapBody {
  edits: MapEdit[];
  total: number;
  prompts: MapPrompt[];
  kept: boolean;
  projection: Projection;
  /** What this server can draw by. */
  projections: Projection[];
  /** The share of all differences that each axis shows; null where axes mean nothing. */
  shares: [number, number] | null;
  judged: boolean;
  revision: number;
}

export type Kind = "edit" | "off" | "answered" | "alone" | "placed";

/** A point of the map: an edit or a question. */
export interface Point {
  key: string;
  kind: Kind;
  /** What the reader reads first. */
  text: string;
  /** Null for a question without words: it has no place. */
  place: MapPlace | null;
  edit?: MapEdit;
  prompt?: MapPrompt;
}

export const KINDS: Record<Kind, string> = {
  placed: "Your questions",
  edit: "Edits",
  off: "Edits that are switched off",
  answered: "Questions that an edit answered",
  alone: "Questions that no edit answered",
};

/** Return all points of a map, in the order of `KINDS`. */
export function pointsOf(body: MapBody): Point[] {
  const found: Point[] = body.edits.map((edit) => ({
    key: `edit ${edit.id}`,
    kind: edit.enabled ? "edit" : "off",
    text: questionOf(edit.prompt),
    place: edit,
    edit,
  }));
  body.prompts.forEach((prompt, i) => {
    const kind: Kind = prompt.source === "posted" ? "placed" : prompt.edit === null ? "alone" : "answered";
    const place = prompt.x === null || prompt.y === null ? null : { x: prompt.x, y: prompt.y };
    found.push({ key: `${prompt.source} ${i}`, kind, text: questionOf(prompt.prompt), place, prompt });
  });
  const order = Object.keys(KINDS);
  return found.sort((one, other) => order.indexOf(one.kind) - order.indexOf(other.kind));
}

/** Return a sentence that says why a question was answered so. */
export function whyOf(prompt: MapPrompt): string {
  const past = prompt.source === "kept";
  switch (prompt.reason) {
    case "fired":
      return past ? "An edit answered it." : "An edit would answer it.";
    case "outside scope":
      return "It lies too far from every edit, so the model answers by itself.";
    case "judged other":
      return "It came close to an edit, but asks something else, so the model answers by itself.";
    case "quiet":
      return "Somebody said that this edit must not answer it.";
    case "no edits":
      return "There is no edit that is switched on.";
    case "no prompt":
      return "It has no words, so it has no place on the map.";
    case "tool result":
    case "tool call":
      return "A tool of the chat gives the answer, so no edit does.";
    case "answer given":
      return "Its answer was begun already, so no edit answers.";
  }
}
