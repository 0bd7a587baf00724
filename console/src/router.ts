// Hash routes: "#/edits/mayor" is the page "edits" with the rest "mayor". A reload shows the same page.

import { useEffect, useState } from "preact/hooks";

export interface Place {
  page: string;
  rest: string;
}

export function parse(hash: string): Place {
  const [, page = "", ...rest] = hash.split("/");
  return { page: page || "ask", rest: decode(rest.join("/")) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Return the link to a page. */
export function link(page: string, rest = ""): string {
  return rest ? `#/${page}/${encodeURIComponent(rest)}` : `#/${page}`;
}

export function go(page: string, rest = ""): void {
  location.hash = link(page, rest);
}

/** Return where the reader is, and follow. */
export function usePlace(): Place {
  const [place, setPlace] = useState(() => parse(location.hash));
  useEffect(() => {
    const follow = () => setPlace(parse(location.hash));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return place;
}
