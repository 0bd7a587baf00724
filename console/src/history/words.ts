// What a revision did, in words.

import type { Asked, Revision, RevisionEdit } from "../types";
import { questionOf } from "../words";

/** Names in a list, at most; the rest is counted. */
const NAMED = 3;

export function listed(names: string[]): string {
  const first = names.slice(0, NAMED).join(", ");
  return names.length > NAMED ? `${first} and ${names.length - NAMED} more` : first;
}

/** Return what an edit is called: its question, as long as that is known. */
function called({ id, prompt }: Pick<RevisionEdit, "id" | "prompt">): string {
  return prompt === null ? id : `“${questionOf(prompt)}”`;
}

/** Return what happened as a sentence, without the prompts that it concerned; `of` is the one edit that is shown. */
export function happened(revision: Revision, of?: { prompt: Asked | null }): string {
  if (of) {
    const edits = revision.edits.map((edit) => ({ ...edit, prompt: edit.prompt ?? of.prompt }));
    if (revision.action === "rollback") return `Went back to revision ${String(revision.detail.to)}: ${became(edits)}`;
    return happened({ ...revision, edits });
  }
  const there = revision.edits.filter((edit) => edit.present).map(called);
  const gone = revision.edits.filter((edit) => !edit.present).map(called);
  const all = listed(revision.edits.map(called));
  switch (revision.action) {
    case "init":
      return "The store was made";
    case "calibrate":
      return "Measured when two questions count as the same";
    case "edit":
      return `Saved ${listed(there)}${gone.length ? `, in place of ${listed(gone)}` : ""}`;
    case "remove":
      return `Removed ${all}`;
    case "enable":
      return `Switched on ${all}`;
    case "disable":
      return `Switched off ${all}`;
    case "quiet":
      return `Made ${all} stay silent on ${questions(revision)}`;
    case "allow":
      return `Made ${all} also answer ${questions(revision)}`;
    case "rollback":
      return `Went back to revision ${String(revision.detail.to)}${changed(there, gone)}`;
    default:
      return `${revision.action} ${all}`.trim();
  }
}

/** Return what became of the one edit of a history, of which going back changed something. */
function became(edits: RevisionEdit[]): string {
  return edits.some((edit) => edit.present)
    ? "this edit is again what it was then"
    : "this edit was not there then, so it was taken out";
}

/** Return what going back did to the edits. */
function changed(there: string[], gone: string[]): string {
  const parts = [there.length && `put back ${listed(there)}`, gone.length && `took out ${listed(gone)}`];
  const told = parts.filter(Boolean).join(", and ");
  return told && `: ${told}`;
}

export function promptsOf(revision: Revision): Asked[] {
  const { prompts } = revision.detail;
  return Array.isArray(prompts) ? (prompts as Asked[]) : [];
}

function questions(revision: Revision): string {
  const prompts = promptsOf(revision).map((prompt) => `“${questionOf(prompt)}”`);
  return prompts.length ? listed(prompts) : "some questions";
}

export function reasonOf(revision: Revision): string {
  const { reason } = revision.detail;
  return typeof reason === "string" ? reason : "";
}

export function whoOf(revision: Revision): string {
  if (revision.by === "local") return "this computer";
  return revision.by ?? "";
}
