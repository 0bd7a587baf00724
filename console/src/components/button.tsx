import type { IconNode } from "lucide";
import type { ComponentChildren, Ref } from "preact";

import { Icon } from "./icon";

interface Props {
  children: ComponentChildren;
  onClick?: () => void;
  /** "main": the one thing to do next; "plain": others; "quiet": in tables and cards; "danger": what is hard to undo. */
  look?: "main" | "plain" | "quiet" | "danger";
  icon?: IconNode;
  type?: "button" | "submit";
  /** What is under way: the button waits, and says so. */
  busy?: boolean;
  disabled?: boolean;
  label?: string;
  pressed?: boolean;
  innerRef?: Ref<HTMLButtonElement>;
}

export function Button({
  children,
  onClick,
  look = "plain",
  icon,
  type = "button",
  busy,
  disabled,
  label,
  pressed,
  innerRef,
}: Props) {
  // A button that waits keeps the focus: the attribute "disabled" would drop it.
  const waits = busy || disabled;
  return (
    <button
      type={type}
      class={`button ${look}`}
      onClick={(event) => (waits ? event.preventDefault() : onClick?.())}
      aria-disabled={waits || undefined}
      aria-label={label}
      title={label}
      aria-pressed={pressed}
      ref={innerRef}
    >
      {busy ? <span class="spinner" aria-hidden="true" /> : icon && <Icon of={icon} />}
      <span>{children}</span>
    </button>
  );
}
