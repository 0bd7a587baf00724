// How often edits answered: a chart over time, and the same figures as tables.

import type { ChartConfiguration } from "chart.js";
import { useMemo, useState } from "preact/hooks";

import { get } from "../api";
import { ChartBox, type Colours } from "../components/chart";
import { SelectField } from "../components/fields";
import { ErrorLine, Loading } from "../components/notes";
import { type Column, Table } from "../components/table";
import { link } from "../router";
import { useLoad, useSession } from "../session";
import type { HourOfHits } from "../types";
import { counted } from "../words";
import { shortened } from "../map/text";
import { type Bin, binsOf, HOURS, type Series, seriesOf, type Span, SPANS, sum } from "./bins";
import { type EditsById, nameOf, useEdits } from "./edits";

const OTHERS = "All other edits";

export function TrafficHits() {
  const { store } = useSession();
  const [span, setSpan] = useState<Span>("week");
  const { data, error, loading } = useLoad(
    (signal) => get<{ data: HourOfHits[] }>("v1/store/hits", { hours: HOURS[span] + 24 }, signal),
    [span, store?.revision],
  );
  const bins = useMemo(() => binsOf(span), [data, span]);
  const series = useMemo(() => seriesOf(data?.data ?? [], bins), [data, bins]);
  const edits = useEdits(
    series.flatMap((one) => one.edit ?? []),
    store,
  );
  const total = sum(series.map((one) => one.total));
  const title = (one: Series) => (one.edit === null ? OTHERS : nameOf(edits, one.edit));

  return (
    <section class="card stack" aria-labelledby="hits-title">
      <div class="traffic-head">
        <h2 id="hits-title">How often edits answered</h2>
        <SelectField label="Time" value={span} options={SPANS} onChange={setSpan} />
      </div>
      <ErrorLine>{error}</ErrorLine>
      {!data && loading && <Loading />}
      {data && total === 0 && (
        <p class="muted">No edit answered in this time. Answers are counted from the first question on; ask one on the page Ask.</p>
      )}
      {data && total > 0 && (
        <>
          <p>Edits gave {counted(total, "answer")} in this time.</p>
          <HitsChart bins={bins} series={series} titles={series.map(title)} />
          <HitsByEdit series={series} edits={edits} />
          <details>
            <summary>The chart's figures as a table</summary>
            <HitsByTime bins={bins} series={series} titles={series.map(title)} />
          </details>
        </>
      )}
    </section>
  );
}

function HitsChart({ bins, series, titles }: { bins: Bin[]; series: Series[]; titles: string[] }) {
  const draw = (colours: Colours): ChartConfiguration => ({
    type: "bar",
    data: {
      labels: bins.map((bin) => bin.title),
      datasets: series.map((one, i) => ({
        label: shortened(titles[i]!, 48),
        data: one.counts,
        backgroundColor: one.edit === null ? `${colours.muted}80` : [colours.accent, colours.mark, ...FURTHER][i],
        borderColor: colours.surface,
        borderWidth: { top: 1 },
        maxBarThickness: 48,
      })),
    },
    options: {
      scales: {
        x: { stacked: true, grid: { display: false }, ticks: { maxRotation: 0, autoSkipPadding: 12 } },
        y: { stacked: true, beginAtZero: true, ticks: { precision: 0 }, title: { display: true, text: "Answers" } },
      },
      plugins: { legend: { position: "bottom", align: "start", labels: { boxWidth: 12, boxHeight: 12 } } },
    },
  });
  return <ChartBox label="Answers of edits over time. The table below has the same figures." height={300} draw={draw} of={[bins, series, titles.join("\n")]} />;
}

/** Colours of the third edit and further ones; they differ in lightness, too. */
const FURTHER = ["#4f7fd0", "#b86aa4", "#93a84a", "#7a6bc4"];

function HitsByEdit({ series, edits }: { series: Series[]; edits: EditsById }) {
  const columns: Column<Series>[] = [
    {
      name: "edit",
      title: "Edit",
      wide: true,
      cell: ({ edit }) => (edit === null ? OTHERS : edits.get(edit) === null ? nameOf(edits, edit) : <a href={link("edits", edit)}>{nameOf(edits, edit)}</a>),
    },
    { name: "answer", title: "Its answer", cell: ({ edit }) => <span class="text">{(edit !== null && edits.get(edit)?.target) || "–"}</span> },
    { name: "hits", title: "Answers", number: true, cell: ({ total }) => total.toLocaleString("en") },
  ];
  return <Table caption="Answers by edit" columns={columns} rows={series} id={(one) => one.edit ?? ""} />;
}

function HitsByTime({ bins, series, titles }: { bins: Bin[]; series: Series[]; titles: string[] }) {
  const shown = bins.map((bin, i) => ({ bin, counts: series.map((one) => one.counts[i]!) })).filter((row) => sum(row.counts));
  return (
    <div class="traffic-scroll" tabIndex={0} role="region" aria-label="Answers by time and edit">
      <table class="traffic-times">
        <caption class="unseen">Answers by time and edit; times without any are left out</caption>
        <thead>
          <tr>
            <th scope="col">Time</th>
            {titles.map((title, i) => (
              <th key={i} scope="col" class="number">
                {shortened(title, 30)}
              </th>
            ))}
            <th scope="col" class="number">
              All
            </th>
          </tr>
        </thead>
        <tbody>
          {shown.map(({ bin, counts }) => (
            <tr key={bin.start}>
              <th scope="row">{bin.title}</th>
              {counts.map((count, i) => (
                <td key={i} class="number">
                  {count}
                </td>
              ))}
              <td class="number">{sum(counts)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
