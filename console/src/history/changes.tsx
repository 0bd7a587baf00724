// What changed between two revisions: of each edit what was there and what is there.

import { Badge } from "../components/bits";
import type { Asked, ChangedEdit, Difference, EditVersion } from "../types";
import { counted, questionOf, same } from "../words";

export function Changes({ difference }: { difference: Difference }) {
  const changes = difference.changes ?? [];
  const all = new Set([...difference.removed, ...difference.added]).size;
  if (all === 0) return <p class="muted">The edits are the same in both.</p>;
  return (
    <>
      <ul class="changes">
        {changes.map((change) => (
          <li key={change.id}>
            <Change change={change} />
          </li>
        ))}
      </ul>
      {all > changes.length && <p class="muted">… and {counted(all - changes.length, "more edit")}.</p>}
    </>
  );
}

function Change({ change }: { change: ChangedEdit }) {
  const { old, new: now } = change;
  const edit = (now ?? old)!;
  return (
    <>
      <p>
        {!old ? (
          <Badge look="good">Added</Badge>
        ) : !now ? (
          <Badge look="bad">Removed</Badge>
        ) : (
          <Badge look="accent">Changed</Badge>
        )}{" "}
        <strong class="text">{questionOf(edit.prompt)}</strong> <span class="muted text">{change.id}</span>
      </p>
      <ul class="plain-list">{old && now ? <Parts old={old} now={now} /> : <li class="text">{edit.target}</li>}</ul>
    </>
  );
}

function Parts({ old, now }: { old: EditVersion; now: EditVersion }) {
  const less = (before: Asked[], after: Asked[]) => before.filter((one) => !after.some((other) => same(one, other)));
  const parts = [
    !same(old.prompt, now.prompt) && ["Question", [questionOf(old.prompt)], [questionOf(now.prompt)]],
    old.target !== now.target && ["Answer", [old.target], [now.target]],
    old.enabled !== now.enabled && ["State", [old.enabled ? "on" : "off"], [now.enabled ? "on" : "off"]],
    ["Ways to ask", less(old.variants, now.variants).map(questionOf), less(now.variants, old.variants).map(questionOf)],
    ["Silent on", less(old.quiet, now.quiet).map(questionOf), less(now.quiet, old.quiet).map(questionOf)],
  ].filter((part): part is [string, string[], string[]] => part !== false && part[1]!.length + part[2]!.length > 0);
  if (!parts.length) return <li class="muted">It was trained anew.</li>;
  return (
    <>
      {parts.map(([name, left, came]) => (
        <li key={name}>
          <span class="muted">{name}: </span>
          {left.map((text) => (
            <del key={text}>{text}</del>
          ))}{" "}
          {came.map((text) => (
            <ins key={text}>{text}</ins>
          ))}
        </li>
      ))}
    </>
  );
}
