// The table of all edits: searched, filtered and sorted by the server, a page at a time.

import { Plus, Power } from "lucide";
import { useEffect, useId, useState } from "preact/hooks";

import { get } from "../api";
import { Ago, PageHead, Quoted, State } from "../components/bits";
import { Button } from "../components/button";
import { SelectField } from "../components/fields";
import { Icon } from "../components/icon";
import { Empty, ErrorLine, Loading, StatusLine } from "../components/notes";
import { type Column, Table } from "../components/table";
import { link } from "../router";
import { sentence, useLoad, useSession } from "../session";
import type { EditPage, StoredEdit } from "../types";
import { counted, questionOf } from "../words";
import { changeEdit, Meanwhile } from "./changing";

type Order = "newest" | "oldest" | "hits" | "fewest_hits" | "last_hit";
type Wanted = "all" | "enabled" | "disabled";

const ORDERS: [Order, string][] = [
  ["newest", "Newest first"],
  ["oldest", "Oldest first"],
  ["hits", "Most answers first"],
  ["fewest_hits", "Fewest answers first"],
  ["last_hit", "Last used first"],
];
const STATES: [Wanted, string][] = [
  ["all", "All"],
  ["enabled", "On"],
  ["disabled", "Off"],
];
/** Edits of a page. */
const PAGE = 50;

/** What the reader looked for; kept while another page is shown. */
let view: { search: string; state: Wanted; order: Order } = { search: "", state: "all", order: "newest" };

export function EditList() {
  const session = useSession();
  const [wanted, setWanted] = useState(view);
  const [search, setSearch] = useState(view.search);
  const [further, setFurther] = useState<{ of: string; edits: StoredEdit[]; next: string | null } | null>(null);
  const [error, setError] = useState("");
  const [done, setDone] = useState("");
  const query = { ...wanted, limit: PAGE };
  const of = JSON.stringify([query, session.store?.revision]);
  const first = useLoad((signal) => get<EditPage>("v1/edits", query, signal), [of]);
  useEffect(() => {
    view = wanted;
  }, [wanted]);
  useEffect(() => {
    const timer = setTimeout(() => setWanted((before) => ({ ...before, search: search.trim() })), 250);
    return () => clearTimeout(timer);
  }, [search]);
  const more = further?.of === of ? further : null;
  const edits = [...(first.data?.data ?? []), ...(more?.edits ?? [])];
  const next = more ? more.next : first.data?.next;
  const attempt = (work: () => Promise<void>) =>
    work().then(
      () => setError(""),
      (failure) => setError(sentence(failure)),
    );
  const showMore = () =>
    attempt(async () => {
      const page = await get<EditPage>("v1/edits", { ...query, after: next });
      setFurther({ of, edits: [...(more?.edits ?? []), ...page.data], next: page.next });
    });
  const toggle = (edit: StoredEdit) =>
    attempt(async () => {
      try {
        await changeEdit(edit, "PATCH", "", { enabled: !edit.enabled });
      } catch (failure) {
        setDone("");
        if (failure instanceof Meanwhile) void session.refresh().then(first.reload);
        throw failure;
      }
      setDone(`“${questionOf(edit.prompt)}” is switched ${edit.enabled ? "off" : "on"}.`);
      await session.refresh();
      await first.reload();
    });
  const none = first.data?.total === 0;
  return (
    <>
      <PageHead
        title="Edits"
        actions={
          <a class="button main" href={link("new")}>
            <Icon of={Plus} /> New edit
          </a>
        }
      >
        Every question that has an answer of yours, and how often it was asked.
      </PageHead>
      <div class="filters" role="search" aria-label="Edits">
        <SearchField value={search} onInput={setSearch} />
        <SelectField
          label="State"
          value={wanted.state}
          options={STATES}
          onChange={(state) => setWanted({ ...wanted, state })}
        />
        <SelectField
          label="Order"
          value={wanted.order}
          options={ORDERS}
          onChange={(order) => setWanted({ ...wanted, order })}
        />
      </div>
      <StatusLine>{done}</StatusLine>
      <ErrorLine>{first.error || error}</ErrorLine>
      {!first.data && first.loading && <Loading />}
      {none && session.store?.edits === 0 && (
        <Empty title="There are no edits yet">
          <p>
            <a href={link("ask")}>Ask</a> a question and correct a wrong answer, or{" "}
            <a href={link("new")}>write an edit</a>.
          </p>
        </Empty>
      )}
      {none && session.store?.edits !== 0 && (
        <Empty title="No edit fits">
          <p>Try fewer words, or choose “All” as the state.</p>
        </Empty>
      )}
      {edits.length > 0 && (
        <>
          <div class="card table-card">
            <Table
              caption="Edits"
              columns={columns(wanted.order, (order) => setWanted({ ...wanted, order }), toggle)}
              rows={edits}
              id={(edit) => edit.id}
              busy={first.loading}
            />
          </div>
          <div class="actions between">
            <span class="muted" role="status">
              {counted(edits.length, "edit")} shown{first.data && ` of ${first.data.total.toLocaleString("en")}`}
            </span>
            {next && <Button onClick={() => void showMore()}>Show more</Button>}
          </div>
        </>
      )}
    </>
  );
}

function columns(order: Order, sort: (order: Order) => void, toggle: (edit: StoredEdit) => void): Column<StoredEdit>[] {
  return [
    {
      name: "question",
      title: "Question",
      wide: true,
      cell: (edit) => (
        <>
          <a class="strong" href={link("edits", edit.id)}>
            <Quoted asked={edit.prompt} />
          </a>
          <div class="muted small text">{edit.id}</div>
        </>
      ),
    },
    { name: "answer", title: "Answer", wide: true, cell: (edit) => <span class="text clipped">{edit.target}</span> },
    {
      name: "hits",
      title: "Answered",
      number: true,
      sort: () => sort(order === "hits" ? "fewest_hits" : "hits"),
      sorted: order === "hits" ? "descending" : order === "fewest_hits" ? "ascending" : undefined,
      cell: (edit) => (edit.hits ? counted(edit.hits, "time") : <span class="muted">never</span>),
    },
    {
      name: "last",
      title: "Last time",
      sort: () => sort("last_hit"),
      sorted: order === "last_hit" ? "descending" : undefined,
      cell: (edit) => (edit.last_hit ? <Ago at={edit.last_hit * 1000} /> : <span class="muted">–</span>),
    },
    { name: "state", title: "State", cell: (edit) => <State enabled={edit.enabled} /> },
    {
      name: "do",
      title: "Switch",
      untitled: true,
      cell: (edit) => (
        <Button
          look="quiet"
          icon={Power}
          onClick={() => toggle(edit)}
          label={`Switch ${edit.enabled ? "off" : "on"}: ${questionOf(edit.prompt)}`}
        >
          {edit.enabled ? "Switch off" : "Switch on"}
        </Button>
      ),
    },
  ];
}

function SearchField({ value, onInput }: { value: string; onInput: (value: string) => void }) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>Search</label>
      <input
        id={id}
        type="search"
        value={value}
        placeholder="Questions, answers, names"
        onInput={(event) => onInput(event.currentTarget.value)}
      />
    </div>
  );
}
