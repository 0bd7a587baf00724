// Traffic: how often edits answered, what came near one, and what would answer the questions of a log.

import { PageHead } from "../components/bits";
import { TrafficHits } from "../traffic/hits";
import { TrafficNear } from "../traffic/near";
import { TrafficScan } from "../traffic/scan";

export function Traffic() {
  return (
    <>
      <PageHead title="Traffic">What people asked, which edits answered, and where an edit may be wrong.</PageHead>
      <TrafficHits />
      <TrafficNear />
      <TrafficScan />
    </>
  );
}
