// A choice among the stored edits: those that were compared first, and whatever a search finds.

import { useId, useState } from "preact/hooks";

import { get } from "../api";
import { Badge } from "../components/bits";
import { ErrorLine } from "../components/notes";
import { useLoad } from "../session";
import type { EditPage, StoredEdit } from "../types";
import { percent, questionOf } from "../words";

interface Props {
  /** Edits to offer first, with how well they fit. */
  nearest: { edit: StoredEdit; score: number | null }[];
  value: string;
  onChange: (id: string) => void;
}

export function EditPicker({ nearest, value, onChange }: Props) {
  const id = useId();
  const [search, setSearch] = useState("");
  const found = useLoad((signal) => get<EditPage>("v1/edits", { search, limit: 20 }, signal), [search]);
  const first = search ? [] : nearest;
  const others = (found.data?.data ?? []).filter((edit) => !first.some((one) => one.edit.id === edit.id));
  const offered = [...first, ...others.map((edit) => ({ edit, score: null }))];
  return (
    <fieldset class="field">
      <legend>Which edit should have answered?</legend>
      <label class="unseen" for={id}>
        Search in the edits
      </label>
      <input
        id={id}
        type="search"
        placeholder="Search in the edits"
        value={search}
        data-first
        onInput={(event) => setSearch(event.currentTarget.value)}
        onKeyDown={(event) => event.key === "Enter" && event.preventDefault()}
      />
      <ErrorLine>{found.error}</ErrorLine>
      <div class="picker">
        {offered.map(({ edit, score }) => (
          <label key={edit.id} class="pick">
            <input
              type="radio"
              name={id}
              value={edit.id}
              checked={edit.id === value}
              onChange={() => onChange(edit.id)}
            />
            <span>
              <span class="text">{questionOf(edit.prompt)}</span>
              <span class="muted text">{edit.target}</span>
            </span>
            {score !== null && <Badge>{percent(score)} alike</Badge>}
            {!edit.enabled && <Badge look="warn">Switched off</Badge>}
          </label>
        ))}
        {!offered.length && !found.loading && (
          <p class="muted">
            {search ? "No edit has this text." : "There are no edits yet: correct the answer instead."}
          </p>
        )}
      </div>
    </fieldset>
  );
}
