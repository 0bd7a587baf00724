import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/components.css";
import "./styles/ask.css";
import "./styles/edit.css";
import "./styles/edits.css";
import "./styles/history.css";
import "./styles/map.css";
import "./styles/traffic.css";

import { render } from "preact";

import { App } from "./app";

render(<App />, document.getElementById("app")!);
