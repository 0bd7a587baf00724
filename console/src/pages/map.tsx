// The map: edits and recent questions in two dimensions. It explains what lies near what; it decides nothing.

import { RefreshCw } from "lucide";
import { useMemo, useState } from "preact/hooks";

import { get, post } from "../api";
import { PageHead } from "../components/bits";
import { Button } from "../components/button";
import { SelectField, TextField } from "../components/fields";
import { Empty, ErrorLine, Loading } from "../components/notes";
import { link } from "../router";
import { useLoad, useSession } from "../session";
import { counted, percent } from "../words";
import { MapChart } from "../map/chart";
import { MapDetail } from "../map/detail";
import { MapList } from "../map/list";
import { type MapBody, pointsOf, type Projection } from "../map/points";

/** Questions that the reader has placed, at most: the latest. */
const PLACED = 20;

export function MapPage() {
  const { store } = useSession();
  const [placed, setPlaced] = useState<string[]>([]);
  const [chosen, setChosen] = useState<string | null>(null);
  const [projection, setProjection] = useState<Projection>("pca");
  const { data, error, loading, reload } = useLoad<MapBody>(
    (signal) => {
      const query = { projection };
      if (placed.length) return post("v1/store/map", { prompts: placed }, query, signal);
      return get("v1/store/map", query, signal);
    },
    [placed, store?.revision, projection],
  );
  const points = useMemo(() => (data ? pointsOf(data) : []), [data]);
  const point = points.find((one) => one.key === chosen);

  const place = (text: string) => {
    const kept = data?.prompts.filter((prompt) => prompt.source === "kept").length ?? 0;
    const next = [...placed.filter((old) => old !== text), text].slice(-PLACED);
    setPlaced(next);
    setChosen(`posted ${kept + next.length - 1}`);
  };

  return (
    <>
      <PageHead
        title="Map"
        actions={
          <Button icon={RefreshCw} busy={loading && data !== null} onClick={() => void reload()}>
            Refresh
          </Button>
        }
      >
        Edits, and questions that people asked. Questions that the model reads as alike lie close together.
      </PageHead>
      <ErrorLine>{error}</ErrorLine>
      {!data && loading && <Loading>Drawing the map …</Loading>}
      {data && !points.length && (
        <Empty title="There is nothing on the map yet">
          <p>
            Make an edit first: it appears here. <a href={link("new")}>New edit</a>
          </p>
        </Empty>
      )}
      {data && points.length > 0 && (
        <>
          <div class="map-tools">
            <PlaceForm onPlace={place} />
            {data.projections.length > 1 && (
              <SelectField label="Kind of map" value={projection} options={KINDS_OF_MAP} onChange={setProjection} />
            )}
          </div>
          {loading && projection === "umap" && data.projection !== "umap" && (
            <Loading>Drawing the groups: the first time this takes up to a minute …</Loading>
          )}
          <div class="map-columns">
            <div class="map-main">
              <section class="card map-card" aria-label="The map">
                <MapChart points={points} chosen={chosen} onChoose={setChosen} />
              </section>
              <Reading body={data} />
            </div>
            <div class="map-side">
              <section class="card map-detail" aria-label="What is chosen" aria-live="polite">
                {point ? (
                  <MapDetail point={point} points={points} onChoose={setChosen} />
                ) : (
                  <p class="muted">Choose a point on the map, or in the list, to read it.</p>
                )}
              </section>
              <section class="card map-points" aria-label="The points as a list">
                <MapList points={points} chosen={chosen} onChoose={setChosen} />
              </section>
            </div>
          </div>
        </>
      )}
    </>
  );
}

const KINDS_OF_MAP: [Projection, string][] = [
  ["pca", "Distances, as true as they can be"],
  ["umap", "Groups of what is alike (UMAP)"],
];

function PlaceForm({ onPlace }: { onPlace: (text: string) => void }) {
  const [text, setText] = useState("");
  return (
    <form
      class="map-place"
      onSubmit={(event) => {
        event.preventDefault();
        if (!text.trim()) return;
        onPlace(text.trim());
        setText("");
      }}
    >
      <TextField label="Where does a question lie?" value={text} onInput={setText} placeholder="Type a question" />
      <Button type="submit">Show it on the map</Button>
    </form>
  );
}

/** Edits from which on the share of the differences that two axes hold says something: few points fit any picture. */
const TELLING = 5;

/** How to read the map, and how much of the truth it shows. */
function Reading({ body }: { body: MapBody }) {
  const share = body.shares && body.shares[0] + body.shares[1];
  return (
    <div class="map-reading hint">
      {share === null ? <Grouped /> : <Flat body={body} share={share} />}
      {body.total > body.edits.length && (
        <p>
          The map shows {body.edits.length} of {counted(body.total, "edit")}, taken evenly from all.
        </p>
      )}
      {!body.kept && <p>Questions that people ask are not kept on this server, so none is shown. (Its option --keep-prompts keeps them.)</p>}
    </div>
  );
}

function Grouped() {
  return (
    <p>
      What lies in one group is alike. How far groups are from each other, and how wide they are, means nothing, so no
      neighbourhoods of edits are drawn. A line joins a chosen point to what belongs to it. Choose a point to read what
      was decided.
    </p>
  );
}

function Flat({ body, share }: { body: MapBody; share: number }) {
  return (
    <>
      <p>
        {body.judged
          ? "A circle is the neighbourhood of an edit. A question in it is compared with the edit word by word, and is answered by it only if both ask the same."
          : "A circle is about how far an edit reaches. A question in it is likely to get the edit's answer."}
        {" A line joins a chosen point to what belongs to it."}
      </p>
      <p>
        A flat picture cannot show everything
        {body.edits.length >= TELLING && `: this one shows ${percent(share)} of the differences between these questions`}
        {". "}
        Points that lie together may be different all the same, and circles are approximate. Choose a point to read what was decided.
      </p>
    </>
  );
}
