// Writes dist/assets as a bundler does: names with a hash of the content, a compressed copy beside each, a manifest.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

rmSync("dist", { recursive: true, force: true });
mkdirSync("dist/assets", { recursive: true });
const manifest = {};
for (const name of ["app.js", "app.css"]) {
  const content = readFileSync(`site/${name}`);
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 12);
  const built = name.replace(".", `.${hash}.`);
  writeFileSync(`dist/assets/${built}`, content);
  writeFileSync(`dist/assets/${built}.gz`, gzipSync(content));
  writeFileSync(`dist/assets/${name}`, content);
  manifest[name] = built;
}
writeFileSync("dist/manifest.json", JSON.stringify(manifest));
