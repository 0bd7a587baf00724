// Edits: the table of all of them, or one with its history.

import { EditDetail } from "../edits/detail";
import { EditList } from "../edits/list";
import type { PageProps } from "../pages";

export function Edits({ rest }: PageProps) {
  return rest ? <EditDetail key={rest} id={rest} /> : <EditList />;
}
