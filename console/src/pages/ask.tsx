// Ask: a chat with the edited model, beside what the original model says.

import { Send, Trash } from "lucide";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { get } from "../api";
import { ask, isAnswered, startOver, type Turn, useChat } from "../ask/chat";
import { TurnView } from "../ask/turn";
import { PageHead } from "../components/bits";
import { Button } from "../components/button";
import { grow } from "../components/fields";
import { Empty } from "../components/notes";
import { link } from "../router";
import { useLoad, useSession } from "../session";
import type { EditPage } from "../types";
import { questionOf } from "../words";

export function Ask() {
  const session = useSession();
  const turns = useChat();
  const [conversation, setConversation] = useState(false);
  const end = useRef<HTMLDivElement>(null);
  const count = useRef(turns.length);
  useEffect(() => {
    if (turns.length > count.current) end.current?.scrollIntoView({ block: "end" });
    count.current = turns.length;
  }, [turns.length]);
  const send = (question: string) => ask(session, question, conversation);
  return (
    <>
      <PageHead
        title="Ask"
        actions={
          turns.length > 0 && (
            <Button look="quiet" icon={Trash} onClick={startOver}>
              Clear the chat
            </Button>
          )
        }
      >
        Ask as your users would. You see the answer with your edits, and what the original model would have said.
      </PageHead>
      {turns.length === 0 ? (
        <Nothing onAsk={send} />
      ) : (
        <ol class="turns">
          {turns.map((turn) => (
            <TurnView key={turn.number} turn={turn} />
          ))}
        </ol>
      )}
      <p class="unseen" role="status">
        {said(turns[turns.length - 1])}
      </p>
      <Composer
        onSend={send}
        busy={conversation && !turns.every(isAnswered)}
        ready={session.model !== ""}
        option={
          turns.length > 0 &&
          session.store?.form !== "raw" && (
            <label class="check">
              <input
                type="checkbox"
                checked={conversation}
                onChange={(event) => setConversation(event.currentTarget.checked)}
              />
              <span>Go on with this conversation</span>
            </label>
          )
        }
      />
      <div ref={end} />
    </>
  );
}

/** What a screen reader says when an answer is whole: the parts of a stream would be too many. */
function said(turn: Turn | undefined): string {
  if (!turn || !isAnswered(turn)) return "";
  if (turn.edited.error) return `There is no answer: ${turn.edited.error}`;
  return `The answer is: ${turn.edited.text}. ${turn.route?.edit ? "An edit gave it." : "No edit gave it."}`;
}

function Nothing({ onAsk }: { onAsk: (question: string) => void }) {
  const session = useSession();
  const examples = useLoad(
    (signal) =>
      session.store ? get<EditPage>("v1/edits", { limit: 3, state: "enabled" }, signal) : Promise.resolve(null),
    [session.store?.revision],
  );
  const questions = examples.data?.data.map((edit) => questionOf(edit.prompt)) ?? [];
  return (
    <Empty title="What would your users ask?">
      <p>
        Write a question below. If the answer is wrong, correct it there and then.{" "}
        {session.store?.edits === 0 && (
          <>
            There are no edits yet; you can also <a href={link("new")}>write one</a>.
          </>
        )}
      </p>
      {questions.length > 0 && (
        <>
          <p>Or try what is edited already:</p>
          <div class="actions centred">
            {questions.map((question) => (
              <Button key={question} onClick={() => onAsk(question)}>
                {question}
              </Button>
            ))}
          </div>
        </>
      )}
    </Empty>
  );
}

interface ComposerProps {
  onSend: (question: string) => void;
  busy: boolean;
  ready: boolean;
  option: ComponentChildren;
}

function Composer({ onSend, busy, ready, option }: ComposerProps) {
  const [text, setText] = useState("");
  const area = useRef<HTMLTextAreaElement>(null);
  useEffect(() => grow(area.current!), [text]);
  const send = () => {
    if (!text.trim() || busy || !ready) return;
    onSend(text.trim());
    setText("");
    area.current!.focus();
  };
  return (
    <form class="composer" onSubmit={(event) => (event.preventDefault(), send())}>
      {option}
      <div class="composer-row">
        <textarea
          ref={area}
          rows={1}
          value={text}
          placeholder="Ask a question"
          aria-label="Your question"
          onInput={(event) => setText(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            send();
          }}
        />
        <Button type="submit" look="main" icon={Send} busy={busy} disabled={!ready}>
          Ask
        </Button>
      </div>
    </form>
  );
}
