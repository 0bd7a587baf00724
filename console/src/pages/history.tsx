import { PageHead } from "../components/bits";
import type { PageProps } from "../pages";

export function History(_: PageProps) {
  return <PageHead title="History" />;
}
