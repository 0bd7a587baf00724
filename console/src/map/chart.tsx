// The map itself: points, the scopes of edits as circles, and a line from what is chosen to what belongs to it.

import type { Chart, ChartConfiguration, Plugin } from "chart.js";
import { useEffect, useMemo, useRef } from "preact/hooks";

import { ChartBox, type Colours } from "../components/chart";
import { shortened } from "./text";
import { type Kind, type MapPlace, type Point } from "./points";

interface Props {
  points: Point[];
  chosen: string | null;
  onChoose: (key: string) => void;
}

/** Above so many edits the lines of their circles are left out, that of the chosen one aside. */
const MANY = 60;
/** Above so many their names, too. */
const NAMED = 40;

interface Look {
  colour: keyof Colours;
  style: "circle" | "triangle" | "rectRot";
  size: number;
  hollow?: boolean;
}

/** How each kind of point is drawn, the lowest layer first. Shapes differ as colours do: not everybody sees both. */
export const LOOKS: Record<Kind, Look> = {
  alone: { colour: "muted", style: "circle", size: 3 },
  answered: { colour: "mark", style: "rectRot", size: 5 },
  off: { colour: "muted", style: "circle", size: 6, hollow: true },
  edit: { colour: "accent", style: "circle", size: 6 },
  placed: { colour: "bad", style: "triangle", size: 7 },
};

export function MapChart({ points, chosen, onChoose }: Props) {
  const height = useMemo(() => (innerWidth < 700 ? 320 : innerWidth < 1180 ? 420 : 540), []);
  const chart = useRef<Chart | null>(null);
  const now = useRef({ chosen, onChoose });
  now.current = { chosen, onChoose };
  useEffect(() => chart.current?.draw(), [chosen]);
  const placed = points.filter((point) => point.place);

  const draw = (colours: Colours): ChartConfiguration => ({
    type: "scatter",
    data: {
      datasets: (Object.keys(LOOKS) as Kind[]).map((kind) => {
        const { colour, style, size, hollow } = LOOKS[kind];
        const own = placed.filter((point) => point.kind === kind);
        return {
          data: own.map((point) => ({ x: point.place!.x, y: point.place!.y, point })),
          pointStyle: style,
          radius: size,
          hoverRadius: size + 2,
          hitRadius: 6,
          borderWidth: hollow ? 2 : 1,
          borderColor: hollow ? colours[colour] : colours.surface,
          backgroundColor: hollow ? "transparent" : colours[colour],
        };
      }),
    },
    options: {
      animation: false,
      layout: { padding: 4 },
      onClick: (event, _, self) => {
        const [hit] = self.getElementsAtEventForMode(event.native!, "nearest", { intersect: true }, false);
        if (hit) now.current.onChoose(pointAt(self, hit.datasetIndex, hit.index).key);
      },
      onHover: (event, hit) => ((event.native!.target as HTMLElement).style.cursor = hit.length ? "pointer" : "default"),
      scales: { x: { display: false }, y: { display: false } },
      plugins: {
        legend: { display: false },
        tooltip: {
          displayColors: false,
          callbacks: { label: (item) => shortened(pointAt(item.chart, item.datasetIndex, item.dataIndex).text, 70) },
        },
      },
    },
    plugins: [equalScales(placed), circles(placed, colours, () => now.current.chosen)],
  });

  return (
    <ChartBox
      label="Map of edits and questions. The list beside it has the same points."
      height={height}
      draw={draw}
      of={[points]}
      onChart={(made) => (chart.current = made)}
    />
  );
}

function pointAt(chart: Chart, dataset: number, index: number): Point {
  return (chart.data.datasets[dataset]!.data[index] as unknown as { point: Point }).point;
}

/** Give both axes the same scale, so that a circle is one and distances can be compared. */
function equalScales(points: Point[]): Plugin {
  const places = points.flatMap((point) => [point.place!, ...(point.edit?.wordings ?? [])]);
  const [left, right] = range(places.map((place) => place.x));
  const [low, high] = range(places.map((place) => place.y));
  return {
    id: "equal",
    beforeUpdate(chart) {
      const wide = Math.max(chart.width, 1);
      const tall = Math.max(chart.height, 1);
      const perPixel = Math.max((right - left) / wide, (high - low) / tall) * 1.25 || 1 / tall;
      const scales = chart.options.scales!;
      Object.assign(scales.x!, centred(left, right, perPixel * wide));
      Object.assign(scales.y!, centred(low, high, perPixel * tall));
    },
    resize(chart) {
      chart.update("none");
    },
  };
}

function range(values: number[]): [number, number] {
  return values.length ? [Math.min(...values), Math.max(...values)] : [0, 0];
}

function centred(low: number, high: number, width: number): { min: number; max: number } {
  const middle = (low + high) / 2;
  return { min: middle - width / 2, max: middle + width / 2 };
}

/** Draw scopes below the points, and above them the names of edits and what is chosen. */
function circles(points: Point[], colours: Colours, chosenKey: () => string | null): Plugin {
  const edits = points.filter((point) => point.edit);
  const byId = new Map(edits.map((point) => [point.edit!.id, point]));
  const at = (chart: Chart, place: MapPlace): [number, number] => [
    chart.scales.x!.getPixelForValue(place.x),
    chart.scales.y!.getPixelForValue(place.y),
  ];

  /** Draw the circles of some edits as one area, so that where they cover each other it is no darker. */
  function scopes(chart: Chart, of: Point[], filled: number, line: number): void {
    const { ctx, scales } = chart;
    ctx.beginPath();
    for (const { edit } of of) {
      if (edit!.radius === null) continue;
      const radius = scales.x!.getPixelForValue(edit!.radius) - scales.x!.getPixelForValue(0);
      for (const place of [edit!, ...edit!.wordings]) {
        const [x, y] = at(chart, place);
        ctx.moveTo(x + radius, y);
        ctx.arc(x, y, radius, 0, 2 * Math.PI);
      }
    }
    ctx.fillStyle = ctx.strokeStyle = colours.accent;
    ctx.globalAlpha = filled;
    ctx.fill();
    ctx.globalAlpha = line;
    ctx.stroke();
  }

  function lines(chart: Chart, chosen: Point): void {
    const { ctx } = chart;
    const id = chosen.prompt?.edit ?? chosen.prompt?.nearest;
    const others = chosen.edit
      ? points.filter((point) => point.prompt?.edit === chosen.edit!.id)
      : [id ? byId.get(id) : undefined].filter((point) => point !== undefined);
    ctx.setLineDash(chosen.prompt && chosen.prompt.edit === null ? [3, 4] : []);
    ctx.globalAlpha = 0.8;
    ctx.strokeStyle = colours.text;
    for (const other of others) {
      ctx.beginPath();
      ctx.moveTo(...at(chart, chosen.place!));
      ctx.lineTo(...at(chart, other.place!));
      ctx.stroke();
    }
  }

  return {
    id: "circles",
    beforeDatasetsDraw(chart) {
      const { ctx } = chart;
      const chosen = points.find((point) => point.key === chosenKey());
      ctx.save();
      ctx.lineWidth = 1;
      const on = edits.filter((point) => point.edit!.enabled);
      scopes(chart, on, 0.09, on.length <= MANY ? 0.12 : 0);
      if (chosen?.edit) scopes(chart, [chosen], 0.14, 0.9);
      if (chosen) lines(chart, chosen);
      ctx.restore();
    },
    afterDatasetsDraw(chart) {
      const { ctx } = chart;
      const chosen = points.find((point) => point.key === chosenKey());
      ctx.save();
      ctx.font = `12px ${getComputedStyle(chart.canvas).fontFamily}`;
      const named = edits.length <= NAMED ? edits : [];
      names(chart, chosen ? [chosen, ...named.filter((point) => point !== chosen)] : named, at, colours);
      if (chosen) {
        ctx.beginPath();
        ctx.arc(...at(chart, chosen.place!), 10, 0, 2 * Math.PI);
        ctx.strokeStyle = colours.text;
        ctx.lineWidth = 2;
        ctx.stroke();
      }
      ctx.restore();
    },
  };
}

/** Write the points' texts beside them, as far as there is room; the first ones come first. */
function names(chart: Chart, points: Point[], at: (chart: Chart, place: MapPlace) => [number, number], colours: Colours): void {
  const { ctx } = chart;
  const taken: [number, number, number, number][] = [];
  ctx.textBaseline = "middle";
  for (const point of points) {
    const text = shortened(point.text, 30);
    const [x, y] = at(chart, point.place!);
    const width = ctx.measureText(text).width;
    const left = x + 12 + width < chart.width ? x + 12 : x - 12 - width;
    const box: [number, number, number, number] = [left, y - 8, left + width, y + 8];
    if (left < 0 || taken.some((other) => box[0] < other[2] && other[0] < box[2] && box[1] < other[3] && other[1] < box[3])) continue;
    taken.push(box);
    ctx.lineWidth = 3;
    ctx.lineJoin = "round";
    ctx.strokeStyle = colours.surface;
    ctx.strokeText(text, left, y);
    ctx.fillStyle = colours.text;
    ctx.fillText(text, left, y);
  }
}
