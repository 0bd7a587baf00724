// A table that becomes a list of cards where the page is narrow. Its roles are spelled out, since a table whose boxes
// are laid out otherwise would lose them.

import { ArrowDown, ArrowUp } from "lucide";
import type { ComponentChildren } from "preact";

import { Icon } from "./icon";

export interface Column<T> {
  name: string;
  title: string;
  cell: (row: T) => ComponentChildren;
  /** Numbers stand at the right. */
  number?: boolean;
  /** What a click on the title sorts by. */
  sort?: () => void;
  sorted?: "ascending" | "descending";
  /** The title is for screen readers alone. */
  untitled?: boolean;
  /** Grows with the page. */
  wide?: boolean;
}

interface Props<T> {
  caption: string;
  columns: Column<T>[];
  rows: T[];
  id: (row: T) => string;
  busy?: boolean;
}

export function Table<T>({ caption, columns, rows, id, busy }: Props<T>) {
  return (
    <table class="table" role="table" aria-busy={busy}>
      <caption class="unseen">{caption}</caption>
      <thead role="rowgroup">
        <tr role="row">
          {columns.map((column) => (
            <th key={column.name} role="columnheader" scope="col" class={kind(column)} aria-sort={column.sorted}>
              <Title column={column} />
            </th>
          ))}
        </tr>
      </thead>
      <tbody role="rowgroup">
        {rows.map((row) => (
          <tr key={id(row)} role="row">
            {columns.map((column) => (
              <td
                key={column.name}
                role="cell"
                class={kind(column)}
                data-title={column.untitled ? undefined : column.title}
              >
                <div>{column.cell(row)}</div>
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function kind<T>(column: Column<T>): string {
  return [`col-${column.name}`, column.number && "number", column.wide && "wide"].filter(Boolean).join(" ");
}

function Title<T>({ column }: { column: Column<T> }) {
  if (column.untitled) return <span class="unseen">{column.title}</span>;
  if (!column.sort) return <>{column.title}</>;
  return (
    <button type="button" class="sort" onClick={column.sort}>
      {column.title}
      {column.sorted && <Icon of={column.sorted === "ascending" ? ArrowUp : ArrowDown} size={14} />}
    </button>
  );
}
