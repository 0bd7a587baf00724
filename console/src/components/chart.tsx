// A chart on a canvas. What it shows must stand beside it as a table or a list, too: a canvas says nothing to a screen
// reader, so its label only names it.

import type { Chart, ChartConfiguration } from "chart.js";
import { useEffect, useRef, useState } from "preact/hooks";

/** The colours of the page, light or dark. */
export interface Colours {
  text: string;
  muted: string;
  line: string;
  accent: string;
  soft: string;
  mark: string;
  surface: string;
  bad: string;
}

interface Props {
  label: string;
  /** Pixels. */
  height: number;
  /** Returns what to draw; called again when `of` or the colours change. */
  draw: (colours: Colours) => ChartConfiguration;
  of: unknown[];
  /** Is given the chart, once it stands. */
  onChart?: (chart: Chart) => void;
}

export function ChartBox({ label, height, draw, of, onChart }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [dark, setDark] = useState(() => scheme().matches);
  useEffect(() => {
    const query = scheme();
    const follow = () => setDark(query.matches);
    query.addEventListener("change", follow);
    return () => query.removeEventListener("change", follow);
  }, []);
  useEffect(() => {
    let chart: Chart | undefined;
    let gone = false;
    void import("../chart_library").then(({ Chart }) => {
      if (gone || !canvas.current) return;
      const colours = coloursNow();
      Chart.defaults.color = colours.muted;
      Chart.defaults.borderColor = colours.line;
      Chart.defaults.font.family = getComputedStyle(document.documentElement).fontFamily;
      const config = draw(colours);
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      config.options = {
        responsive: true,
        maintainAspectRatio: false,
        ...(still && { animation: false }),
        ...config.options,
      };
      chart = new Chart(canvas.current, config);
      onChart?.(chart);
    });
    return () => {
      gone = true;
      chart?.destroy();
    };
  }, [...of, dark]);
  return (
    <div class="chart" style={{ height: `${height}px` }}>
      <canvas ref={canvas} role="img" aria-label={label} />
    </div>
  );
}

function scheme(): MediaQueryList {
  return matchMedia("(prefers-color-scheme: dark)");
}

function coloursNow(): Colours {
  const style = getComputedStyle(document.documentElement);
  const of = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    text: of("text"),
    muted: of("muted"),
    line: of("line"),
    accent: of("accent"),
    soft: of("accent-soft"),
    mark: of("mark"),
    surface: of("surface"),
    bad: of("bad"),
  };
}
