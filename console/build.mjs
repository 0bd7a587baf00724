// Bundles the console into src/meloedit/serve/console, where the server finds it. Run it by `make console`.
//
// build.json records a hash of the sources and of each file that was built: a test compares both, so that a changed
// source without a new build, or a bundle changed by hand, is found without node.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "src", "meloedit", "serve", "console");
const SOURCES = ["src", "index.html", "icon.svg", "package.json", "package-lock.json", "tsconfig.json", "build.mjs"];

const result = await build({
  absWorkingDir: here,
  entryPoints: { app: "src/main.tsx" },
  outdir: out,
  bundle: true,
  splitting: true, // the chart library is loaded only where a page draws a chart
  chunkNames: "[name]",
  format: "esm",
  target: ["es2022"],
  minify: true,
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none", // LICENSES.txt has the whole texts
  metafile: true,
  write: false,
});

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const files = new Map(result.outputFiles.map((file) => [relative(out, file.path), Buffer.from(file.contents)]));
for (const name of ["index.html", "icon.svg"]) files.set(name, readFileSync(join(here, name)));
files.set("LICENSES.txt", Buffer.from(licences(Object.keys(result.metafile.inputs))));
for (const [name, content] of files) writeFileSync(join(out, name), content);
const built = Object.fromEntries([...files].sort(byName).map(([name, content]) => [name, sha256(content)]));
writeFileSync(join(out, "build.json"), JSON.stringify({ sources: sourcesHash(), files: built }, null, 1) + "\n");
for (const [name, content] of files) console.log(`${name}  ${content.length} bytes`);

/** The licences of every package of which something is in the bundle. */
function licences(inputs) {
  const packages = new Set();
  for (const input of inputs) {
    const found = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input.split(sep).join("/"));
    if (found) packages.add(found[1]);
  }
  const texts = [...packages].sort().map((name) => {
    const folder = join(here, "node_modules", name);
    const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
    if (!file) throw new Error(`${name} has no licence file`);
    const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
    return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
  });
  return `The console contains parts of these packages.\n\n${texts.join("\n" + "-".repeat(80) + "\n\n")}`;
}

/** One hash of all sources: of each its path and its content, in the order of the paths. */
function sourcesHash() {
  const hash = createHash("sha256");
  const paths = SOURCES.flatMap((name) => listed(join(here, name))).map((path) => relative(here, path).split(sep).join("/"));
  for (const path of paths.sort()) hash.update(path + "\0" + sha256(readFileSync(join(here, path))) + "\n");
  return hash.digest("hex");
}

function listed(path) {
  try {
    return readdirSync(path).flatMap((name) => listed(join(path, name)));
  } catch (error) {
    if (error.code === "ENOTDIR") return [path];
    throw error;
  }
}

function sha256(content) {
  return createHash("sha256").update(content).digest("hex");
}

function byName([one], [other]) {
  return one < other ? -1 : 1;
}
