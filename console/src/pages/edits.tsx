import { PageHead } from "../components/bits";
import type { PageProps } from "../pages";

export function Edits(_: PageProps) {
  return <PageHead title="Edits" />;
}
