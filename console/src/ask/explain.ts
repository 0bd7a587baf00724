// A route in words that need no knowledge of the method.

import type { Reason, Route, StoredEdit } from "../types";
import { counted, percent, questionOf } from "../words";

export interface Explained {
  /** The outcome in one sentence. */
  headline: string;
  /** What spoke for it and against it, a sentence each. */
  lines: string[];
  /** The score and what it must exceed, where both are known. */
  scale: { score: number; least: number } | null;
}

const GUARDS: Record<string, string> = {
  opposite: "One of them has the opposite of a word of the other (such as “enable” and “disable”)",
  number: "They have different numbers in them",
  direction: "They go in different directions (from A to B, or from B to A)",
  "yes or no": "This question wants a yes or a no, and the edit’s does not",
  task: "This wants something done with a text (such as translating it), and the edit’s question does not",
  negation: "Only one of them asks what is not so",
};

export function explained(route: Route, edits: Record<string, StoredEdit>): Explained {
  const judged = route.score !== null && route.least_score !== null;
  return {
    headline: headline(route, named(route.nearest, edits)),
    lines: lines(route, edits),
    scale: judged ? { score: route.score!, least: route.least_score! } : null,
  };
}

function named(id: string | null, edits: Record<string, StoredEdit>): string {
  const edit = id === null ? undefined : edits[id];
  return edit ? `“${questionOf(edit.prompt)}”` : `“${id ?? ""}”`;
}

function headline(route: Route, edit: string): string {
  const sentences: Record<Reason, string> = {
    fired: `An edit answered: the one for ${edit}.`,
    "judged other": `No edit answered. The closest one is for ${edit}, which was taken for a different question.`,
    "outside scope": route.nearest ? "No edit answered: none is about this." : "No edit answered: none is near.",
    quiet: `No edit answered. The one for ${edit} was told to stay silent on questions like this.`,
    "no edits": "No edit answered: there is none that is switched on.",
    "no prompt": "No edit answered: there are no words in the question.",
    "tool result": `No edit answered. A tool has answered already, and the edit for ${edit} does not overrule tools.`,
    "tool call": `No edit answered. The answer begins with a call of a tool, which the edit for ${edit} leaves alone.`,
    "answer given": `No edit answered. The conversation says the answer of the edit for ${edit} already, and more.`,
  };
  return sentences[route.reason] ?? `No edit answered (${route.reason}).`;
}

function lines(route: Route, edits: Record<string, StoredEdit>): string[] {
  const { evidence } = route;
  if (route.nearest === null) return [];
  const edit = named(route.nearest, edits);
  const own = evidence?.candidates.find(([id]) => id === route.nearest);
  const found = [alike(route, edit)];
  if (evidence) found.push(...names(evidence.names), ...parts(evidence.relation, evidence.content));
  if (own?.[3]) found.push(`${GUARDS[own[3]] ?? own[3]}: this counted against a match.`);
  if (own && own[2] !== null) {
    const better = route.reason === "quiet" ? ", better than the edit itself" : "";
    found.push(`Of the questions on which this edit stays silent, the closest fits by ${percent(own[2])}${better}.`);
  }
  const others = evidence?.candidates.filter(([id]) => id !== route.nearest) ?? [];
  if (others.length) {
    found.push(`Also compared: ${others.map(([id, score]) => `${named(id, edits)} (${percent(score)})`).join(", ")}.`);
  }
  if (evidence?.turns_read)
    found.push(`Up to ${counted(evidence.turns_read, "message")} before the question were read with it.`);
  if (evidence?.cut) found.push("The question is long, so only its beginning and its end were compared.");
  if (!route.user_turn_known)
    found.push("The question could not be told from the rest of the text, so all of it was compared.");
  return found.filter((line) => line !== "");
}

function alike(route: Route, edit: string): string {
  if (route.score !== null && route.least_score !== null) {
    if (route.distance === 0) return `The question is worded as the edit for ${edit} is.`;
    const outcome = route.score > route.least_score ? "enough" : "not enough";
    return `That this question asks the same as ${edit} was rated ${percent(route.score)}: ${outcome}, as an edit answers above ${percent(route.least_score)}.`;
  }
  if (route.reason === "outside scope" && route.least_score !== null) {
    return `The closest edit is for ${edit}. It is so far away that the two questions were not compared word by word.`;
  }
  if (route.distance === null || route.threshold === null) return "";
  return `The closest edit is for ${edit}, at a distance of ${route.distance.toFixed(2)}; an edit answers below ${route.threshold.toFixed(2)}.`;
}

function names(found: Record<string, [number, boolean]>): string[] {
  const had = Object.entries(found)
    .filter(([, [, here]]) => here)
    .map(([word]) => word);
  const missing = Object.entries(found)
    .filter(([, [, here]]) => !here)
    .map(([word]) => word);
  const listed = (words: string[]) => words.map((word) => `“${word}”`).join(", ");
  if (had.length && missing.length)
    return [`Of the edit’s names and key words the question has ${listed(had)}, and lacks ${listed(missing)}.`];
  if (had.length) return [`The question has all of the edit’s names and key words: ${listed(had)}.`];
  return missing.length ? [`The question has none of the edit’s names and key words: ${listed(missing)}.`] : [];
}

function parts(relation: number | null, content: number | null): string[] {
  const scaled = (value: number) => Math.round(Math.max(0, value) * 100);
  if (relation === null || content === null) return [];
  return [
    `In what they ask, the two are alike by ${scaled(relation)} of 100; in all that they say, by ${scaled(content)} of 100.`,
  ];
}
