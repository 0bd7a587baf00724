// The map's points as a list, for the keyboard and for screen readers: arrows move, and what is chosen is shown.

import { useEffect, useId, useRef, useState } from "preact/hooks";

import { TextField } from "../components/fields";
import { counted } from "../words";
import { KINDS, type Kind, type Point } from "./points";
import { MapMark } from "./mark";

interface Props {
  points: Point[];
  chosen: string | null;
  onChoose: (key: string) => void;
}

/** Where a key leads in a list of `count`, from `at` (-1: nowhere yet). */
function moved(key: string, at: number, count: number): number | null {
  if (key === "ArrowDown") return Math.min(at + 1, count - 1);
  if (key === "ArrowUp") return Math.max(at - 1, 0);
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  return null;
}

export function MapList({ points, chosen, onChoose }: Props) {
  const id = useId();
  const [search, setSearch] = useState("");
  const list = useRef<HTMLDivElement>(null);
  const shown = points.filter((point) => fits(point, search));
  const at = shown.findIndex((point) => point.key === chosen);
  useEffect(() => {
    // Within the list alone: the page must not jump when a point of the map is clicked.
    const option = list.current?.querySelector<HTMLElement>('[aria-selected="true"]');
    if (!option || !list.current) return;
    const { offsetTop, offsetHeight } = option;
    const { scrollTop, clientHeight } = list.current;
    if (offsetTop < scrollTop) list.current.scrollTop = offsetTop;
    else if (offsetTop + offsetHeight > scrollTop + clientHeight) list.current.scrollTop = offsetTop + offsetHeight - clientHeight;
  }, [chosen, search]);

  return (
    <div class="map-list stack tight">
      <TextField label="Find on the map" value={search} onInput={setSearch} placeholder="A word of a question or answer" />
      <p class="hint" role="status">
        {search ? `${counted(shown.length, "point")} of ${points.length}` : counted(points.length, "point")}
      </p>
      <div
        class="map-options"
        ref={list}
        role="listbox"
        tabIndex={0}
        aria-label="Edits and questions on the map"
        aria-activedescendant={at >= 0 ? `${id}-${at}` : undefined}
        onKeyDown={(event) => {
          const to = moved(event.key, at, shown.length);
          if (to === null || !shown[to]) return;
          event.preventDefault();
          onChoose(shown[to].key);
        }}
      >
        {(Object.keys(KINDS) as Kind[]).map((kind) => {
          const own = shown.map((point, i) => ({ point, i })).filter(({ point }) => point.kind === kind);
          if (!own.length) return null;
          return (
            <div key={kind} role="group" aria-labelledby={`${id}-${kind}`}>
              <p class="map-kind" id={`${id}-${kind}`}>
                <MapMark kind={kind} />
                {KINDS[kind]}
              </p>
              {own.map(({ point, i }) => (
                <div
                  key={point.key}
                  id={`${id}-${i}`}
                  class="map-option"
                  role="option"
                  aria-selected={point.key === chosen}
                  onClick={() => onChoose(point.key)}
                >
                  {point.text || "(no words)"}
                </div>
              ))}
            </div>
          );
        })}
      </div>
    </div>
  );
}

function fits(point: Point, search: string): boolean {
  const wanted = search.trim().toLowerCase();
  const texts = [point.text, point.edit?.target ?? "", point.edit?.id ?? "", point.prompt?.edit ?? ""];
  return !wanted || texts.some((text) => text.toLowerCase().includes(wanted));
}
