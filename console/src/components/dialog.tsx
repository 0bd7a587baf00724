// A dialog over the page. The browser keeps the focus in it, closes it by Escape, and gives the focus back.

import { X } from "lucide";
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";

import { sentence } from "../session";
import { Button } from "./button";
import { Icon } from "./icon";
import { ErrorLine } from "./notes";

interface Props {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  /** Whether it can be closed without an answer. */
  closable?: boolean;
  wide?: boolean;
}

export function Dialog({ title, onClose, children, closable = true, wide }: Props) {
  const id = useId();
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    const shown = dialog.current!;
    shown.showModal();
    shown.querySelector<HTMLElement>("[data-first]")?.focus();
    return () => {
      shown.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      class={wide ? "wide" : ""}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        if (closable) onClose();
      }}
    >
      <header>
        <h2 id={id}>{title}</h2>
        {closable && (
          <button type="button" class="button quiet square" aria-label="Close" onClick={onClose}>
            <Icon of={X} />
          </button>
        )}
      </header>
      {children}
    </dialog>
  );
}

interface QuestionProps {
  title: string;
  children: ComponentChildren;
  /** What the button says. */
  yes: string;
  danger?: boolean;
  disabled?: boolean;
  onYes: () => Promise<unknown>;
  onClose: () => void;
  wide?: boolean;
}

/** A dialog with one thing to do, which closes when it is done; an error stays in it. */
export function Question({ title, children, yes, danger, disabled, onYes, onClose, wide }: QuestionProps) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState("");
  const act = async (event: Event) => {
    event.preventDefault();
    if (busy || disabled) return;
    setBusy(true);
    setError("");
    try {
      await onYes();
      onClose();
    } catch (failure) {
      setError(sentence(failure));
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose} wide={wide}>
      <form onSubmit={act} class="stack">
        {children}
        <ErrorLine>{error}</ErrorLine>
        <div class="actions end">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" look={danger ? "danger" : "main"} busy={busy} disabled={disabled}>
            {yes}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
