// What to do about a question that came near an edit: let the edit answer it, or keep it silent.

import { BellOff, Check } from "lucide";
import { useState } from "preact/hooks";

import { Button } from "../components/button";
import { ErrorLine, StatusLine } from "../components/notes";
import { changeEdit, Meanwhile } from "../edits/changing";
import { sentence, useSession } from "../session";
import type { Asked } from "../types";

export type Decision = "allow" | "quiet";

interface Props {
  edit: string;
  asked: Asked;
  /** Whether the edit answers the question as things are. */
  fires: boolean;
  /** What was decided before. */
  decided?: Decision;
  onDecided?: (decision: Decision) => void;
}

export function Decide({ edit, asked, fires, decided, onDecided }: Props) {
  const { refresh } = useSession();
  const [busy, setBusy] = useState<Decision | null>(null);
  const [error, setError] = useState("");
  const decide = async (decision: Decision) => {
    setBusy(decision);
    setError("");
    try {
      await changeEdit({ id: edit }, "POST", `/${decision}`, { prompts: [asked] });
      onDecided?.(decision);
      await refresh();
    } catch (failure) {
      setError(sentence(failure));
      if (failure instanceof Meanwhile) void refresh();
    }
    setBusy(null);
  };
  if (decided) {
    return (
      <StatusLine>
        {decided === "allow" ? "The edit answers this question from now on." : "The edit stays silent on this question from now on."}
      </StatusLine>
    );
  }
  return (
    <div class="stack tight">
      <div class="actions">
        <Button icon={Check} busy={busy === "allow"} disabled={busy === "quiet"} onClick={() => void decide("allow")}>
          {fires ? "Right, it asks the same" : "Same question: let it answer"}
        </Button>
        <Button icon={BellOff} busy={busy === "quiet"} disabled={busy === "allow"} onClick={() => void decide("quiet")}>
          {fires ? "Wrong: keep silent on it" : "Other question: keep silent"}
        </Button>
      </div>
      <ErrorLine>{error}</ErrorLine>
    </div>
  );
}
