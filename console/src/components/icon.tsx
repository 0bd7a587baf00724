// Icons of Lucide, drawn beside words; they say nothing by themselves.

import type { IconNode } from "lucide";
import { h } from "preact";

interface Props {
  of: IconNode;
  size?: number;
}

export function Icon({ of, size = 18 }: Props) {
  const shape = { width: size, height: size, viewBox: "0 0 24 24", fill: "none", stroke: "currentColor" };
  const stroke = { "stroke-width": 1.8, "stroke-linecap": "round", "stroke-linejoin": "round" } as const;
  return (
    <svg {...shape} {...stroke} class="icon" aria-hidden="true" focusable="false">
      {of.map(([tag, attributes], i) => h(tag, { ...attributes, key: i } as object))}
    </svg>
  );
}
