import { PageHead } from "../components/bits";
import type { PageProps } from "../pages";

export function MapPage(_: PageProps) {
  return <PageHead title="Map" />;
}
