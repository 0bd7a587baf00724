import { PageHead } from "../components/bits";
import type { PageProps } from "../pages";

export function NewEdit(_: PageProps) {
  return <PageHead title="New edit" />;
}
