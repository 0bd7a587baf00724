// One question of the chat with both answers, why the edited one came about, and what can be done about it.

import { BellOff, CircleCheck, MessageCircleReply, PenLine, RotateCw, Sparkles, Square } from "lucide";
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import { Badge, Quoted } from "../components/bits";
import { Button } from "../components/button";
import { Icon } from "../components/icon";
import { ErrorLine, StatusLine } from "../components/notes";
import { draftOf, writeDraft } from "../edit/draft";
import { go, link } from "../router";
import { useSession } from "../session";
import { messageText } from "../words";
import { again, asked, isAnswered, isRunning, type Side, stop, type Turn } from "./chat";
import { AllowDialog, QuietDialog } from "./dialogs";
import { type Explained, explained } from "./explain";

export function TurnView({ turn }: { turn: Turn }) {
  const session = useSession();
  const [dialog, setDialog] = useState<"quiet" | "allow" | null>(null);
  const fired = turn.route?.edit ? turn.edits[turn.route.edit] : undefined;
  const settled = !isRunning(turn);
  const same = settled && turn.edited.state === "done" && !turn.edited.error && turn.edited.text === turn.base.text;
  const redo = (done: string) => {
    again(session, turn, done);
    void session.refresh();
  };
  return (
    <li class="turn" aria-label={`Question ${turn.number}`}>
      <div class="question">
        <span class="unseen">You asked: </span>
        <Quoted asked={asked(turn.messages)} />
      </div>
      <StatusLine>{turn.done}</StatusLine>
      <div class="card answers">
        <div class="pair">
          <Answer title="With your edits" side={turn.edited} main>
            {fired && <Badge look="accent">edited</Badge>}
          </Answer>
          <Answer title="Original model" side={turn.base}>
            {same && <Badge>the same</Badge>}
          </Answer>
        </div>
        {turn.route && (
          <Why explained={explained(turn.route, turn.edits)} fired={fired !== undefined} edit={turn.route.edit} />
        )}
        <ErrorLine>{turn.routeError}</ErrorLine>
        {!settled && (
          <div class="actions">
            <Button look="quiet" icon={Square} onClick={() => stop(turn.number)}>
              {isAnswered(turn) ? "Stop the original model" : "Stop"}
            </Button>
          </div>
        )}
        {isAnswered(turn) && session.mayEdit && (
          <div class="actions" role="group" aria-label="What to do about this answer">
            <Button icon={PenLine} onClick={() => correct(turn)}>
              Correct this answer
            </Button>
            {fired && (
              <Button icon={BellOff} onClick={() => setDialog("quiet")}>
                This edit should not have answered
              </Button>
            )}
            <Button icon={MessageCircleReply} onClick={() => setDialog("allow")}>
              {fired ? "Another edit should have answered" : "An edit should have answered"}
            </Button>
            <Button look="quiet" icon={RotateCw} onClick={() => redo("")}>
              Ask again
            </Button>
          </div>
        )}
      </div>
      {dialog === "quiet" && fired && (
        <QuietDialog turn={turn} edit={fired} onDone={redo} onClose={() => setDialog(null)} />
      )}
      {dialog === "allow" && <AllowDialog turn={turn} onDone={redo} onClose={() => setDialog(null)} />}
    </li>
  );
}

/** Go to New edit: with the edit that answered, so that it can be changed, or else with the question. */
function correct(turn: Turn): void {
  const fired = turn.route?.edit ? turn.edits[turn.route.edit] : undefined;
  const question = messageText(turn.messages[turn.messages.length - 1]!);
  const before = turn.messages.slice(0, -1);
  if (fired && !before.length) writeDraft(draftOf(fired, question));
  else writeDraft({ prompt: question, before, clash: fired ? "replace" : "ask" });
  go("new");
}

function Answer({
  title,
  side,
  main,
  children,
}: {
  title: string;
  side: Side;
  main?: boolean;
  children?: ComponentChildren;
}) {
  return (
    <section class={`answer ${main ? "main" : ""}`} aria-busy={side.state === "waiting" || side.state === "writing"}>
      <h3>
        {title} {children}
      </h3>
      {side.text && <Long text={side.text} />}
      {side.cut && <p class="muted">(cut off here)</p>}
      {side.state === "waiting" && (
        <p class="loading">
          <span class="spinner" aria-hidden="true" /> Answering …
        </p>
      )}
      {side.state === "done" && !side.text && !side.error && <p class="muted">(an empty answer)</p>}
      {side.state === "stopped" && <p class="muted">(stopped)</p>}
      {side.error && <p class="note bad">{side.error}</p>}
    </section>
  );
}

/** Characters of an answer that is shown whole at once. */
const SHORT = 420;

function Long({ text }: { text: string }) {
  const [open, setOpen] = useState(false);
  if (text.length <= SHORT) return <p class="text">{text}</p>;
  return (
    <>
      <p class={`text ${open ? "" : "clamped"}`}>{text}</p>
      <Button look="quiet" onClick={() => setOpen(!open)}>
        {open ? "Show less" : "Show all"}
      </Button>
    </>
  );
}

function Why({ explained, fired, edit }: { explained: Explained; fired: boolean; edit: string | null }) {
  return (
    <details class="why">
      <summary>
        <Icon of={fired ? Sparkles : CircleCheck} />
        <span>
          {explained.headline} <span class="more">Why?</span>
        </span>
      </summary>
      {explained.scale && <Scale {...explained.scale} />}
      <ul>
        {explained.lines.map((line) => (
          <li key={line} class="text">
            {line}
          </li>
        ))}
      </ul>
      {edit && <a href={link("edits", edit)}>See this edit</a>}
    </details>
  );
}

/** How sure the comparison was, beside what is needed: the sentences say the same. */
function Scale({ score, least }: { score: number; least: number }) {
  const at = (share: number) => `${(share * 100).toFixed(1)}%`;
  return (
    <div class="scale" aria-hidden="true">
      <div class="track">
        <div class={`fill ${score > least ? "enough" : ""}`} style={{ width: at(score) }} />
        <div class="least" style={{ left: at(least) }}>
          <span>needed</span>
        </div>
      </div>
      <div class="ends">
        <span>asks something else</span>
        <span>asks the same</span>
      </div>
    </div>
  );
}
