// What the API returns, as far as the console reads it. The schema is at /openapi.json.

export interface Message {
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

/** A question: a text, or the messages of a chat. */
export type Asked = string | Message[];

export interface StoreInfo {
  model: string;
  store: string;
  mode: string;
  /** How a text is asked: models without a chat template continue it. */
  form: "chat" | "raw";
  revision: number;
  edits: number;
  enabled: number;
  least_score: number | null;
  threshold: number | null;
  calibrated: boolean;
}

export interface StoredEdit {
  id: string;
  prompt: Asked;
  target: string;
  variants: Asked[];
  quiet: Asked[];
  metadata: Record<string, unknown>;
  over_tools: boolean;
  subject: string;
  enabled: boolean;
  revision: number;
  rank: number;
  report: Record<string, unknown>;
  hits: number;
  last_hit: number | null;
}

export interface EditPage {
  data: StoredEdit[];
  total: number;
  next: string | null;
  revision: number;
}

export type Reason =
  | "fired"
  | "outside scope"
  | "judged other"
  | "quiet"
  | "no edits"
  | "no prompt"
  | "tool result"
  | "tool call"
  | "answer given";

/** An edit that was compared: id, score, the score of its best quiet prompt, the guard that lowered the score. */
export type Candidate = [string, number, number | null, string | null];

export interface Evidence {
  content: number | null;
  entity_overlap: number | null;
  relation: number | null;
  names: Record<string, [number, boolean]>;
  candidates: Candidate[];
  turns_read: number;
  cut: boolean;
}

export interface Route {
  edit: string | null;
  reason: Reason;
  nearest: string | null;
  distance: number | null;
  threshold: number | null;
  score: number | null;
  least_score: number | null;
  user_turn_known: boolean;
  revision: number;
  evidence: Evidence | null;
}

export interface TriedNeighbour {
  prompt: string;
  kind: string;
  score: number;
  fires: boolean;
}

export interface Trial {
  id: string;
  asked: number;
  warned: boolean;
  neighbours: TriedNeighbour[];
  silenced: string[];
}

export interface EditReport {
  id: string;
  status: "stored" | "skipped" | "failed";
  holds: boolean;
  steps: number;
  confidence: number | null;
  seconds: number;
  nearest: string | null;
  overlaps: string[];
  replaced: string[];
  corrections: number;
  reason: string;
  trial: Trial | null;
}

export interface ErrorFacts {
  message: string;
  type: string;
  param: string | null;
  code: string | null;
}

export interface Job {
  id: string;
  kind: string;
  state: "queued" | "running" | "done" | "failed" | "cancelled";
  by: string;
  step: string;
  done: number;
  total: number;
  reports: EditReport[];
  result: Record<string, unknown> | null;
  error: ErrorFacts | null;
  revision: number;
}

export interface RevisionEdit {
  id: string;
  present: boolean;
  enabled: boolean;
  /** What it asks now; null: it is not there now. */
  prompt: Asked | null;
}

export interface Revision {
  revision: number;
  time: string;
  action: string;
  by: string | null;
  detail: Record<string, unknown>;
  edits: RevisionEdit[];
}

export interface HistoryPage {
  data: Revision[];
  revision: number;
}

export interface EditVersion {
  prompt: Asked;
  target: string;
  variants: Asked[];
  quiet: Asked[];
  metadata: Record<string, unknown>;
  over_tools: boolean;
  enabled: boolean;
}

export interface ChangedEdit {
  id: string;
  old: EditVersion | null;
  new: EditVersion | null;
}

export interface Difference {
  removed: string[];
  added: string[];
  changes: ChangedEdit[] | null;
}

export interface HourOfHits {
  edit: string;
  hour: number;
  count: number;
}

export interface PromptLine {
  edit: string;
  time: number;
  fired: boolean;
  reason: Reason;
  score: number | null;
  prompt: Asked;
}

export interface PromptPage {
  kept: boolean;
  data: PromptLine[];
}

export interface ScanLine {
  index: number;
  edit: string;
  fires: boolean;
  reason: Reason;
  distance: number | null;
  score: number | null;
}

export interface ScanResult {
  prompts: number;
  fired: number;
  lines: ScanLine[];
  revision: number;
}
