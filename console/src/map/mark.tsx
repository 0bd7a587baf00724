import type { Kind } from "./points";

/** The mark by which a kind of point is drawn on the map, for the legend. Its shape is in styles/map.css. */
export function MapMark({ kind }: { kind: Kind }) {
  return <span class={`map-mark ${kind}`} aria-hidden="true" />;
}
