// The shell: navigation, the page that the address names, the dialog that asks for a token.

import { KeyRound } from "lucide";
import { useEffect, useRef, useState } from "preact/hooks";

import { onTokenNeeded, setToken, token } from "./api";
import { Button } from "./components/button";
import { Icon } from "./components/icon";
import { Empty, ErrorLine } from "./components/notes";
import { PageHead } from "./components/bits";
import { TokenDialog } from "./components/token";
import { PAGES } from "./pages";
import { link, usePlace } from "./router";
import { type Session, SessionProvider, useServer } from "./session";
import { capital, counted } from "./words";

export function App() {
  const [signedIn, setSignedIn] = useState(0);
  const [wanted, setWanted] = useState<string | null>(null); // what is wrong with the token, while one is asked for
  const [locked, setLocked] = useState(false);
  useEffect(
    () =>
      onTokenNeeded((error) => {
        setWanted(error.code === "invalid_api_key" ? `${capital(error.message)}.` : "");
        setLocked(true);
      }),
    [],
  );
  const session = useServer(signedIn);
  const place = usePlace();
  const main = useRef<HTMLElement>(null);
  const page = PAGES.find((one) => one.name === place.page);
  const first = useRef(true);
  useEffect(() => {
    document.title = `${page?.title ?? "Not found"} – meloedit`;
    // The focus follows to the new page, so that a screen reader reads its title; not when the console opens.
    if (!first.current) main.current?.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
    first.current = false;
    scrollTo(0, 0);
  }, [place.page]);

  return (
    <SessionProvider value={session}>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), main.current?.focus())}>
        Skip to the page
      </a>
      <div class="shell">
        <Side here={place.page} session={session} onToken={() => setWanted("")} />
        <main id="main" ref={main} tabIndex={-1}>
          <ErrorLine>{session.problem}</ErrorLine>
          {locked ? (
            <Locked onToken={() => setWanted("")} />
          ) : !page ? (
            <NoPage />
          ) : (
            <Shown key={`${page.name} ${signedIn}`} page={page} rest={place.rest} session={session} />
          )}
        </main>
      </div>
      {wanted !== null && (
        <TokenDialog
          problem={wanted}
          onToken={(given) => {
            setToken(given);
            setWanted(null);
            setLocked(false);
            setSignedIn((times) => times + 1);
          }}
          onClose={() => setWanted(null)}
        />
      )}
    </SessionProvider>
  );
}

function Shown({ page, rest, session }: { page: (typeof PAGES)[number]; rest: string; session: Session }) {
  if (page.forAll || session.mayEdit) return <page.component rest={rest} />;
  return (
    <>
      <PageHead title={page.title} />
      <Empty title="Your token may ask, and not edit">
        <p>This page needs a token of the role “edit”. The person who runs the server can give you one.</p>
      </Empty>
    </>
  );
}

function Locked({ onToken }: { onToken: () => void }) {
  return (
    <>
      <PageHead title="This server asks who you are" />
      <Empty title="A token is needed">
        <p>The person who runs the server can give you one.</p>
        <Button look="main" icon={KeyRound} onClick={onToken}>
          Enter a token
        </Button>
      </Empty>
    </>
  );
}

function NoPage() {
  return (
    <>
      <PageHead title="There is no such page" />
      <p>
        Go to <a href={link("ask")}>Ask</a>.
      </p>
    </>
  );
}

function Side({ here, session, onToken }: { here: string; session: Session; onToken: () => void }) {
  const pages = PAGES.filter((page) => page.forAll || session.mayEdit);
  return (
    <header class="side">
      <a class="brand" href={link("ask")}>
        <img src="console/icon.svg" alt="" width="28" height="28" />
        <span>meloedit</span>
      </a>
      <nav aria-label="Pages">
        <ul>
          {pages.map((page) => (
            <li key={page.name}>
              <a href={link(page.name)} aria-current={page.name === here ? "page" : undefined}>
                <Icon of={page.icon} size={20} />
                <span>{page.title}</span>
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <Served session={session} onToken={onToken} />
    </header>
  );
}

function Served({ session, onToken }: { session: Session; onToken: () => void }) {
  const { store } = session;
  return (
    <section class="served" aria-label="What is served">
      {session.model && <p class="model">{session.model}</p>}
      {store && (
        <p class="facts">
          <span>{store.store}</span>
          <span>
            {counted(store.edits, "edit")}
            {store.enabled < store.edits && `, ${store.edits - store.enabled} off`}
          </span>
          <span>revision {store.revision}</span>
        </p>
      )}
      {token() && (
        <Button look="quiet" icon={KeyRound} onClick={onToken}>
          Change token
        </Button>
      )}
    </section>
  );
}
