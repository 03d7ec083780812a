// Puts the package together in web/dist: the page's module, the worker with the wasm glue in it, the program, types.
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { execFileSync } from "node:child_process";
import { rolldown } from "rolldown";

const web = path.dirname(new URL(import.meta.url).pathname);
const dist = path.join(web, "dist");
fs.rmSync(dist, { recursive: true, force: true });
/** What a program compiles is kept for that very program. */
const program = crypto.createHash("sha256").update(fs.readFileSync(path.join(web, "pkg/wgrad_bg.wasm"))).digest("hex").slice(0, 16);

for (const name of ["index", "worker"]) {
    const bundle = await rolldown({ input: path.join(web, "src", `${name}.ts`), platform: "browser", resolve: { extensions: [".ts", ".js"] }, transform: { define: { PROGRAM: JSON.stringify(program) } } });
    await bundle.write({ file: path.join(dist, `${name}.js`), format: "esm", minify: true, comments: false });
    await bundle.close();
}
fs.copyFileSync(path.join(web, "pkg/wgrad_bg.wasm"), path.join(dist, "wgrad_bg.wasm"));
const tsc = path.join(web, "node_modules/.bin/tsc");
execFileSync(tsc, ["-p", web, "--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", path.join(dist, "types")], { stdio: "inherit" });
// The types lie beside the modules; those of the pages and of the worker's inside are nobody's business.
for (const file of fs.readdirSync(path.join(dist, "types/src"))) {
    if (file.startsWith("worker.") || file.startsWith("opfs.") || file.startsWith("choices.") || file.startsWith("kept.") || file.startsWith("sources.")) continue;
    const text = fs.readFileSync(path.join(dist, "types/src", file), "utf8").replace(/^import .*comlink.*\n|^import .*worker\.ts.*\n/gm, "");
    fs.writeFileSync(path.join(dist, file), text.replaceAll(/(from "\.[^"]*)\.ts"/g, '$1.js"'));
}
fs.rmSync(path.join(dist, "types"), { recursive: true });
