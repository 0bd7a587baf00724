// What a revision did, in words.

import type { Asked, Revision, RevisionEdit } from "../types";
import { counted, questionOf } from "../words";

/** Names in a list, at most; the rest is counted. */
const NAMED = 3;

export function listed(names: string[]): string {
  const first = names.slice(0, NAMED).join(", ");
  return names.length > NAMED ? `${first} and ${names.length - NAMED} more` : first;
}

/** Return what an edit is called: its question, as long as that is known. */
function called(edit: RevisionEdit): string {
  return edit.prompt === null ? edit.id : `“${questionOf(edit.prompt)}”`;
}

/** Return what happened as a sentence, without the prompts that it concerned. */
export function happened(revision: Revision): string {
  const there = revision.edits.filter((edit) => edit.present).map(called);
  const gone = revision.edits.filter((edit) => !edit.present).map(called);
  const all = listed(revision.edits.map(called));
  switch (revision.action) {
    case "init":
      return "The store was made";
    case "calibrate":
      return "Measured how alike questions must be (calibration)";
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
      return `Went back to revision ${String(revision.detail.to)}${revision.edits.length ? `: ${counted(revision.edits.length, "edit")} changed` : ""}`;
    default:
      return `${revision.action} ${all}`.trim();
  }
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
