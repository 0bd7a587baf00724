import { PageHead } from "../components/bits";
import type { PageProps } from "../pages";

export function Traffic(_: PageProps) {
  return <PageHead title="Traffic" />;
}
