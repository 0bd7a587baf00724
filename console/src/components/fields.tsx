// Fields of forms, each with its label and a hint that is read with it.

import { Plus, X } from "lucide";
import type { ComponentChildren, TargetedInputEvent } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";

import { Button } from "./button";
import { Icon } from "./icon";
import { ErrorLine } from "./notes";
import { counted } from "../words";

interface Shared {
  label: string;
  hint?: ComponentChildren;
  value: string;
  onInput: (value: string) => void;
  placeholder?: string;
  required?: boolean;
  /** The field that has the focus when its dialog opens. */
  first?: boolean;
}

export function TextField({
  label,
  hint,
  value,
  onInput,
  placeholder,
  required,
  first,
  secret,
}: Shared & { secret?: boolean }) {
  const id = useId();
  const shared = {
    id,
    value,
    placeholder,
    required,
    autocomplete: "off",
    "data-first": first || undefined,
    "aria-describedby": hint ? `${id}-hint` : undefined,
    onInput: (event: TargetedInputEvent<HTMLInputElement>) => onInput(event.currentTarget.value),
  };
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {secret ? <input type="password" {...shared} /> : <input type="text" {...shared} />}
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

/** A text of several lines, as high as what is in it. */
export function AreaField({
  label,
  hint,
  value,
  onInput,
  placeholder,
  required,
  first,
  rows = 2,
}: Shared & { rows?: number }) {
  const id = useId();
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => grow(area.current!), [value]);
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <textarea
        id={id}
        ref={area}
        rows={rows}
        value={value}
        placeholder={placeholder}
        required={required}
        spellcheck={value.length <= MEASURED}
        data-first={first || undefined}
        aria-describedby={hint ? `${id}-hint` : undefined}
        onInput={(event) => onInput(event.currentTarget.value)}
      />
      {hint && (
        <p class="hint" id={`${id}-hint`}>
          {hint}
        </p>
      )}
    </div>
  );
}

/** Characters of a text that is measured: a longer one fills the field anyway, and measuring it takes long. */
const MEASURED = 10_000;

export function grow(area: HTMLTextAreaElement): void {
  if (area.textLength > MEASURED) {
    area.style.height = "320px";
    return;
  }
  area.style.height = "auto";
  area.style.height = `${Math.min(area.scrollHeight + 2, 320)}px`;
}

interface ListProps {
  label: string;
  hint: ComponentChildren;
  values: string[];
  onChange: (values: string[]) => void;
  placeholder?: string;
  /** What the button that adds one says. */
  add: string;
}

/** Lines that can be pasted into a list at once. */
const PASTED = 100;

/** A list of texts: each can be changed and taken out, and Enter adds another one; several pasted lines become several. */
export function ListField({ label, hint, values, onChange, placeholder, add }: ListProps) {
  const id = useId();
  const list = useRef<HTMLFieldSetElement>(null);
  const [focus, setFocus] = useState(-1);
  const [told, setTold] = useState("");
  useLayoutEffect(() => {
    if (focus >= 0) list.current!.querySelectorAll<HTMLInputElement>("input")[focus]?.focus();
    setFocus(-1);
  }, [focus]);
  const change = (at: number, value: string) => (setTold(""), onChange(values.map((old, i) => (i === at ? value : old))));
  const paste = (event: ClipboardEvent, at: number) => {
    const lines = (event.clipboardData?.getData("text") ?? "").split(/[\r\n]+/).filter((line) => line.trim());
    if (lines.length < 2) return;
    event.preventDefault();
    const many = lines.length > PASTED;
    setTold(many ? `These are ${counted(lines.length, "line")}: at most ${PASTED} can be pasted at once.` : "");
    if (many) return;
    const behind = values[at]!.trim() ? at + 1 : at;
    onChange([...values.slice(0, behind), ...lines, ...values.slice(at + 1)]);
    setFocus(behind + lines.length - 1);
  };
  const addOne = () => {
    onChange([...values, ""]);
    setFocus(values.length);
  };
  return (
    <fieldset class="field list" ref={list} aria-describedby={`${id}-hint`}>
      <legend>{label}</legend>
      <p class="hint" id={`${id}-hint`}>
        {hint}
      </p>
      {values.map((value, i) => (
        <div class="list-row" key={i}>
          <input
            type="text"
            value={value}
            placeholder={placeholder}
            autocomplete="off"
            aria-label={`${label}, number ${i + 1}`}
            onInput={(event) => change(i, event.currentTarget.value)}
            onPaste={(event) => paste(event, i)}
            onKeyDown={(event) => {
              if (event.key === "Enter") {
                event.preventDefault();
                addOne();
              }
            }}
          />
          <button
            type="button"
            class="button quiet square"
            aria-label={`Take out number ${i + 1}`}
            onClick={() => {
              onChange(values.filter((_, j) => j !== i));
              setFocus(Math.min(i, values.length - 2));
            }}
          >
            <Icon of={X} />
          </button>
        </div>
      ))}
      <ErrorLine>{told}</ErrorLine>
      <div>
        <Button look="quiet" icon={Plus} onClick={addOne}>
          {add}
        </Button>
      </div>
    </fieldset>
  );
}

interface ChoiceProps<T extends string> {
  label: string;
  value: T;
  options: [T, string][];
  onChange: (value: T) => void;
}

/** One of a few, in a menu. */
export function SelectField<T extends string>({ label, value, options, onChange }: ChoiceProps<T>) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      <select id={id} value={value} onChange={(event) => onChange(event.currentTarget.value as T)}>
        {options.map(([name, title]) => (
          <option key={name} value={name}>
            {title}
          </option>
        ))}
      </select>
    </div>
  );
}
