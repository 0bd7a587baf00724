// What every page may want to know: the store that is served, and what the reader may do.

import { createContext } from "preact";
import { useCallback, useContext, useEffect, useState } from "preact/hooks";

import { ApiError, get } from "./api";
import type { StoreInfo } from "./types";

export interface Session {
  /** What is served; null while it is not known, or where the token may only ask. */
  store: StoreInfo | null;
  /** The name by which the model is asked. */
  model: string;
  /** Whether the token may read and change edits. */
  mayEdit: boolean;
  /** What is wrong with the server, if anything. */
  problem: string;
  /** Read the store again; call it after each change. */
  refresh: () => Promise<void>;
}

const NOTHING: Session = { store: null, model: "", mayEdit: true, problem: "", refresh: async () => {} };
const Context = createContext<Session>(NOTHING);
export const SessionProvider = Context.Provider;

export function useSession(): Session {
  return useContext(Context);
}

/** Seconds between two looks at what others changed meanwhile. */
const LOOK = 15;

export function useServer(signedIn: number): Session {
  const [state, setState] = useState<Omit<Session, "refresh">>(NOTHING);
  const refresh = useCallback(async () => {
    try {
      const store = await get<StoreInfo>("v1/store");
      setState({ store, model: store.model, mayEdit: true, problem: "" });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 403 && error.code === "role") {
        const models = await get<{ data: { id: string }[] }>("v1/models");
        setState({ store: null, model: models.data[0]?.id ?? "", mayEdit: false, problem: "" });
      } else setState((before) => ({ ...before, problem: error.status === 401 ? "" : error.message }));
    }
  }, []);
  useEffect(() => {
    void refresh();
    const timer = setInterval(() => document.visibilityState === "visible" && void refresh(), LOOK * 1000);
    return () => clearInterval(timer);
  }, [signedIn]);
  return { ...state, refresh };
}

export interface Loaded<T> {
  data: T | null;
  error: string;
  loading: boolean;
  reload: () => Promise<void>;
}

/** Load something when `deps` change; what was loaded before stays meanwhile. */
export function useLoad<T>(load: (signal: AbortSignal) => Promise<T>, deps: unknown[]): Loaded<T> {
  const [state, setState] = useState<{ data: T | null; error: string; loading: boolean }>({
    data: null,
    error: "",
    loading: true,
  });
  const [again, setAgain] = useState<{ done: () => void } | null>(null);
  useEffect(() => {
    const leaving = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    load(leaving.signal)
      .then(
        (data) => setState({ data, error: "", loading: false }),
        (error: unknown) => {
          if (!leaving.signal.aborted) setState((before) => ({ ...before, error: sentence(error), loading: false }));
        },
      )
      .finally(() => again?.done());
    return () => leaving.abort();
  }, [...deps, again]);
  const reload = useCallback(() => new Promise<void>((done) => setAgain({ done })), []);
  return { ...state, reload };
}

/** Return an error as the line to show. */
export function sentence(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
