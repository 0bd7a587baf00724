// Revisions as a list: what happened, who did it and when, and what can be done about it.

import type { ComponentChildren } from "preact";

import { Ago, Quoted } from "../components/bits";
import { link } from "../router";
import type { Asked, Revision } from "../types";
import { happened, promptsOf, reasonOf, whoOf } from "./words";

interface Props {
  label: string;
  revisions: Revision[];
  actions: (revision: Revision) => ComponentChildren;
  /** Whether the names of the edits are links. */
  linked?: boolean;
  /** The one edit whose history it is, by its question. */
  of?: { prompt: Asked | null };
}

export function Timeline({ label, revisions, actions, linked, of }: Props) {
  return (
    <ol class="timeline" aria-label={label}>
      {revisions.map((revision) => (
        <li key={revision.revision} class={revision.action}>
          <div class="what">
            <p class="text">{happened(revision, of)}</p>
            {reasonOf(revision) && <p class="muted text">“{reasonOf(revision)}”</p>}
            <p class="muted facts">
              <span>Revision {revision.revision}</span>
              <Ago at={Date.parse(revision.time)} />
              {whoOf(revision) && <span>by {whoOf(revision)}</span>}
              {linked && revision.edits.length === 1 && revision.edits[0]!.present && (
                <a href={link("edits", revision.edits[0]!.id)}>see the edit</a>
              )}
            </p>
            {promptsOf(revision).length > 3 && (
              <details>
                <summary>All {promptsOf(revision).length} questions</summary>
                <ul class="plain-list">
                  {promptsOf(revision).map((prompt, i) => (
                    <li key={i}>
                      <Quoted asked={prompt} />
                    </li>
                  ))}
                </ul>
              </details>
            )}
          </div>
          <div class="actions">{actions(revision)}</div>
        </li>
      ))}
    </ol>
  );
}
