// The pages, in the order of the navigation. A new page is a component and a line here.

import { ChartColumn, type IconNode, List, Map as MapIcon, MessageCircle, RotateCcwClock, SquarePen } from "lucide";
import type { ComponentType } from "preact";

import { Ask } from "./pages/ask";
import { Edits } from "./pages/edits";
import { History } from "./pages/history";
import { MapPage } from "./pages/map";
import { NewEdit } from "./pages/new_edit";
import { Traffic } from "./pages/traffic";

export interface PageProps {
  /** What stands behind the page's name in the address. */
  rest: string;
}

export interface Page {
  /** Its part of the address: #/name. */
  name: string;
  title: string;
  icon: IconNode;
  component: ComponentType<PageProps>;
  /** Whether a token that may only ask is enough for it. */
  forAll?: boolean;
}

export const PAGES: Page[] = [
  { name: "ask", title: "Ask", icon: MessageCircle, component: Ask, forAll: true },
  { name: "edits", title: "Edits", icon: List, component: Edits },
  { name: "new", title: "New edit", icon: SquarePen, component: NewEdit },
  { name: "map", title: "Map", icon: MapIcon, component: MapPage },
  { name: "traffic", title: "Traffic", icon: ChartColumn, component: Traffic },
  { name: "history", title: "History", icon: RotateCcwClock, component: History },
];
