// The API's client: JSON requests, server-sent events, and the token that goes with them.

import type { ErrorFacts, Job, StoredEdit } from "./types";

const KEY = "meloedit.token";

/** An error as the API tells it: one line. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly code: string | null = null,
    readonly param: string | null = null,
  ) {
    super(message);
  }
}

let askForToken: (error: ApiError) => void = () => {};

/** Let `listener` know when the server wants a token, or another one. */
export function onTokenNeeded(listener: (error: ApiError) => void): void {
  askForToken = listener;
}

export function token(): string {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setToken(value: string): void {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

type Query = Record<string, string | number | boolean | null | undefined>;

export interface Options {
  body?: unknown;
  query?: Query;
  signal?: AbortSignal;
  /** The revision at which the store must still be. */
  revision?: number;
}

/** Return the address of a path of the API, relative to the page: it may be mounted anywhere. */
export function address(path: string, query: Query = {}): string {
  const url = new URL(path, document.baseURI);
  url.hash = "";
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, String(value));
  }
  return url.href;
}

async function send(method: string, path: string, { body, query, signal, revision }: Options): Promise<Response> {
  const headers = new Headers({ Accept: "application/json" });
  if (body !== undefined) headers.set("Content-Type", "application/json");
  if (revision !== undefined) headers.set("If-Match", `"${revision}"`);
  if (token()) headers.set("Authorization", `Bearer ${token()}`);
  let response: Response;
  try {
    response = await fetch(address(path, query), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The server cannot be reached. Is it running?");
  }
  if (response.ok) return response;
  const facts = await told(response);
  const failure = new ApiError(response.status, facts.message, facts.code, facts.param);
  if (response.status === 401) askForToken(failure);
  throw failure;
}

async function told(response: Response): Promise<ErrorFacts> {
  try {
    return ((await response.json()) as { error: ErrorFacts }).error;
  } catch {
    const message = `The server answered ${response.status} ${response.statusText}.`;
    return { message, type: "", param: null, code: null };
  }
}

/** Send a request and return the body of its answer. */
export async function call<T>(method: string, path: string, options: Options = {}): Promise<T> {
  const response = await send(method, path, options);
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(response.status, "The server’s answer cannot be read.");
  }
}

export const get = <T>(path: string, query: Query = {}, signal?: AbortSignal) =>
  call<T>("GET", path, { query, signal });
export const post = <T>(path: string, body: unknown, query: Query = {}, signal?: AbortSignal) =>
  call<T>("POST", path, { body, query, signal });

/** Return the path of an edit: an id may hold any character. */
export function editPath(id: string, rest = ""): string {
  return `v1/edits/${encodeURIComponent(id)}${rest}`;
}

/** What is said of an edit whose name is that of another address of the server, such as "jobs". */
export const UNREADABLE = "This edit cannot be opened here; use the command line: meloedit show";

/** Read an edit. */
export async function readEdit(id: string, signal?: AbortSignal): Promise<StoredEdit> {
  const found = await get<StoredEdit | null>(editPath(id), {}, signal);
  if (found?.id !== id || !Array.isArray(found.variants) || !Array.isArray(found.quiet))
    throw new ApiError(0, UNREADABLE);
  return found;
}

/** Yield the data of server-sent events, parsed, until the server ends them. */
export async function* events<T>(method: string, path: string, options: Options = {}): AsyncGenerator<T> {
  const response = await send(method, path, options);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop()!;
      for (const part of parts) {
        const data = part
          .split("\n")
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trimStart())
          .join("\n");
        if (data === "[DONE]") return;
        if (data) yield JSON.parse(data) as T;
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** Wait until a job is over, telling how it goes on; a job that failed is thrown as its error. */
export async function finished(job: Job, tell: (job: Job) => void = () => {}, signal?: AbortSignal): Promise<Job> {
  let last = job;
  tell(job);
  if (!isOver(job)) {
    for await (const news of events<Job>("GET", `v1/edits/jobs/${job.id}/events`, { signal })) {
      last = news;
      tell(news);
    }
  }
  if (last.error) throw new ApiError(400, last.error.message, last.error.code, last.error.param);
  if (last.state === "cancelled")
    throw new ApiError(400, "This was stopped. What was stored before stays.", "cancelled");
  return last;
}

export function isOver(job: Job): boolean {
  return job.state === "done" || job.state === "failed" || job.state === "cancelled";
}
