import { PageHead } from "../components/bits";
import type { PageProps } from "../pages";

export function Ask(_: PageProps) {
  return <PageHead title="Ask" />;
}
