// What a visitor downloads, against the budget: the program with brotli, the scripts as they are. Exits with 1 where it is
// more.
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";

const dist = path.join(path.dirname(new URL(import.meta.url).pathname), "dist");
const read = (name) => fs.readFileSync(path.join(dist, name));
const brotli = (bytes) => zlib.brotliCompressSync(bytes, { params: { [zlib.constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }).length;
const program = read("wgrad_bg.wasm");
const found = [
    ["wgrad_bg.wasm with brotli", brotli(program), 350_000],
    ["index.js and worker.js", read("index.js").length + read("worker.js").length, 60_000],
];
for (const [what, bytes, most] of found) {
    console.log(`${what}: ${bytes} bytes of at most ${most}${bytes > most ? ": TOO LARGE" : ""}`);
    if (bytes > most) process.exitCode = 1;
}
