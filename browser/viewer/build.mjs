// Sources and the packages of package-lock.json -> the viewer's bundle: viewer.js, its manifest, and the licences of
// what is in it. Run by scripts/build_viewer.sh.  node build.mjs SOURCES MODULES OUT
import { createHash } from "node:crypto";
import { readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [sources, modules, out] = process.argv.slice(2).map((one) => path.resolve(one));
const esbuild = await import(pathToFileURL(path.join(modules, "esbuild/lib/main.js")));

// vtk.js is 820 kB for volumes and WebGL, neither of which is used; without this plugin it would all be in the bundle.
const withoutVtk = {
  name: "without-vtk",
  setup(build) {
    build.onResolve({ filter: /^@kitware\/vtk\.js/ }, () => ({ path: path.join(sources, "src/vtk-absent.cjs") }));
  },
};

const { metafile } = await esbuild.default.build({
  entryPoints: [path.join(sources, "src/main.js")],
  outfile: path.join(out, "viewer.js"),
  nodePaths: [modules],
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  metafile: true,
  plugins: [withoutVtk],
  absWorkingDir: path.dirname(modules),
});

const [bundle] = Object.values(metafile.outputs);
const used = Object.entries(bundle.inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0);
const names = new Set(used.map(([file]) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1]).filter(Boolean));
const packages = [];
const texts = [];
for (const name of [...names].sort()) {
  const folder = path.join(modules, name);
  const { version, license } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  packages.push({ name, version, license });
  const notice = (await readdir(folder)).find((file) => /^licen[cs]e/i.test(file));
  const text = notice ? (await readFile(path.join(folder, notice), "utf8")).trim() : `Licence: ${license}`;
  texts.push(`${name} ${version} (${license})\n\n${text}\n`);
}
await writeFile(path.join(out, "LICENSES.txt"), texts.join(`\n${"-".repeat(80)}\n\n`));
const sha256 = (data) => createHash("sha256").update(data).digest("hex");
const made = ["viewer.js", "LICENSES.txt"];
const manifest = {
  about: "Made by scripts/build_viewer.sh; do not edit.",
  sources: {},
  made: {},
  packages,
};
const inputs = ["package.json", "package-lock.json", "build.mjs"];
inputs.push(...(await readdir(path.join(sources, "src"))).sort().map((file) => `src/${file}`));
for (const file of inputs) manifest.sources[file] = sha256(await readFile(path.join(sources, file)));
for (const file of made) manifest.made[file] = sha256(await readFile(path.join(out, file)));
await writeFile(path.join(out, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
console.log(`viewer.js: ${bundle.bytes} bytes, with ${packages.map((one) => `${one.name} ${one.version}`).join(", ")}`);
