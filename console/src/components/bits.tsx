// Small things that several pages show: a page's head, a time, a state, a question in quotes.

import type { ComponentChildren } from "preact";

import { questionOf, since, dated, turnsBefore, counted } from "../words";
import type { Asked } from "../types";

interface HeadProps {
  title: string;
  /** What the page is for, in one sentence. */
  children?: ComponentChildren;
  actions?: ComponentChildren;
}

export function PageHead({ title, children, actions }: HeadProps) {
  return (
    <header class="page-head">
      <div>
        <h1 tabIndex={-1}>{title}</h1>
        {children && <p>{children}</p>}
      </div>
      {actions && <div class="actions">{actions}</div>}
    </header>
  );
}

/** How long ago something was; `at` in milliseconds since 1970. */
export function Ago({ at }: { at: number }) {
  return (
    <time dateTime={new Date(at).toISOString()} title={dated(at)}>
      {since(at)}
    </time>
  );
}

export function Badge({
  children,
  look = "plain",
}: {
  children: ComponentChildren;
  look?: "plain" | "good" | "warn" | "bad" | "accent";
}) {
  return <span class={`badge ${look}`}>{children}</span>;
}

export function State({ enabled }: { enabled: boolean }) {
  return enabled ? <Badge look="good">On</Badge> : <Badge look="warn">Off</Badge>;
}

/** A question as text; of a chat the last one, and how much stands before it. */
export function Quoted({ asked }: { asked: Asked }) {
  const before = turnsBefore(asked);
  return (
    <>
      <span class="quoted">{questionOf(asked)}</span>
      {before > 0 && <span class="muted"> (after {counted(before, "message")})</span>}
    </>
  );
}
