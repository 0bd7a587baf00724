// The dialog that asks for a token, where the server wants one. It is kept until the tab is closed.

import { useState } from "preact/hooks";

import { Button } from "./button";
import { Dialog } from "./dialog";
import { TextField } from "./fields";
import { ErrorLine } from "./notes";

interface Props {
  problem: string;
  onToken: (token: string) => void;
  onClose: () => void;
}

export function TokenDialog({ problem, onToken, onClose }: Props) {
  const [given, setGiven] = useState("");
  return (
    <Dialog title="Your token" onClose={onClose}>
      <form
        class="stack"
        onSubmit={(event) => {
          event.preventDefault();
          if (given.trim()) onToken(given.trim());
        }}
      >
        <p>
          This server asks who you are. The person who runs it has a token for you; it is kept until you close this tab.
        </p>
        <TextField label="Token" secret value={given} onInput={setGiven} required first />
        <ErrorLine>{problem}</ErrorLine>
        <div class="actions end">
          <Button type="submit" look="main">
            Go on
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
