// Lines that say how things stand: errors, what was done, nothing here yet, work under way.

import { CircleAlert, CircleCheck, Info } from "lucide";
import type { ComponentChildren } from "preact";

import { Icon } from "./icon";

/** An error, as the API tells it. Nothing where there is none. */
export function ErrorLine({ children }: { children: string | null | undefined }) {
  return (
    <div role="alert">
      {children && (
        <p class="note bad">
          <Icon of={CircleAlert} />
          <span>{children}</span>
        </p>
      )}
    </div>
  );
}

/** What was done, or how far something is; screen readers read it when it changes. */
export function StatusLine({ children, look = "good" }: { children?: ComponentChildren; look?: "good" | "info" }) {
  return (
    <div role="status">
      {children && (
        <p class={`note ${look}`}>
          <Icon of={look === "good" ? CircleCheck : Info} />
          <span>{children}</span>
        </p>
      )}
    </div>
  );
}

/** A remark that is no answer to something the reader did. */
export function Note({
  children,
  look = "info",
}: {
  children: ComponentChildren;
  look?: "good" | "info" | "warn" | "bad";
}) {
  const icon = look === "good" ? CircleCheck : look === "info" ? Info : CircleAlert;
  return (
    <div class={`note ${look}`}>
      <Icon of={icon} />
      <div>{children}</div>
    </div>
  );
}

/** What a page shows where it has nothing: what to do. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** Work under way, with how much of it is done where that is known. */
export function Progress({ label, done, total }: { label: string; done?: number; total?: number }) {
  const known = done !== undefined && total !== undefined && total > 0;
  return (
    <div class="progress">
      <p role="status">{label}</p>
      <progress aria-label={label} max={known ? total : undefined} value={known ? done : undefined} />
    </div>
  );
}

export function Loading({ children = "Loading …" }: { children?: string }) {
  return (
    <p class="loading" role="status">
      <span class="spinner" aria-hidden="true" /> {children}
    </p>
  );
}
