// What `npm pack` makes, as somebody else uses it: installed into a fresh Vite project, checked by TypeScript, built, and trained with.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { rolldown } from "rolldown";
import { launch, run, web } from "./browser.mjs";
import { serve } from "./server.mjs";

const project = fs.mkdtempSync(path.join(os.tmpdir(), "wgrad-project-"));
const shell = (program, ...words) => execFileSync(program, words, { cwd: project, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
const write = (name, text) => fs.writeFileSync(path.join(project, name), text);

// Asks npm for nothing but the tarball's name and contents.
const packed = JSON.parse(execFileSync("npm", ["pack", "--json", "--silent", "--pack-destination", project], { cwd: web, encoding: "utf8" }));
const [{ filename, files }] = packed;
assert.ok(files.every(({ path }) => /^(dist\/|README\.md$|package\.json$)/.test(path)), "nothing but the package is packed");
const { vite, typescript } = JSON.parse(fs.readFileSync(path.join(web, "package.json"))).devDependencies;
write("package.json", JSON.stringify({ private: true, type: "module", dependencies: { wgrad: `file:./${filename}` }, devDependencies: { vite, typescript } }));
write("tsconfig.json", JSON.stringify({ compilerOptions: { target: "ES2022", module: "ESNext", moduleResolution: "bundler", lib: ["ES2023", "DOM"], strict: true, noEmit: true, types: [] }, include: ["main.ts"] }));
// The README's example as it stands, but that what it says is kept.
const [, example] = fs.readFileSync(path.join(web, "README.md"), "utf8").match(/```js\n([^]*?)```/);
assert.ok(example.trim().split("\n").length <= 20, "the example has twenty lines");
write("example.js", `const said = (globalThis.said = []);\n${example.replaceAll("console.log(", "said.push(")}\nglobalThis.file = file;\n`);
write("index.html", '<!doctype html><title>a project</title><script type="module" src="/main.ts"></script><script type="module" src="/example.js"></script>');
write("main.ts", `
import { linear, open, sequential, tanh, type Metrics } from "wgrad";
async function train(): Promise<number[]> {
    const device = await open();
    const model = await device.model(sequential({ input: [2] }, [linear(16), tanh(), linear(2)]), { batch: 4, steps: 200, lr: 0.03 });
    const losses: number[] = [];
    for await (const metrics of model.fit({ inputs: [0, 0, 0, 1, 1, 0, 1, 1], targets: [0, 1, 1, 0] })) losses.push((metrics satisfies Metrics).loss);
    return losses;
}
Object.assign(globalThis, { trained: train() });
`);
shell("npm", "install", "--silent", "--no-audit", "--no-fund");
shell("npx", "tsc");
shell("npx", "vite", "build", "--logLevel", "warn");

// A bundler that leaves the worker and the program where they are: they are copied beside what it makes.
const bundle = await rolldown({ input: path.join(project, "main.ts"), platform: "browser", cwd: project });
await bundle.write({ file: path.join(project, "bundled/main.js"), format: "esm" });
await bundle.close();
for (const file of ["worker.js", "wgrad_bg.wasm"]) fs.copyFileSync(path.join(project, "node_modules/wgrad/dist", file), path.join(project, "bundled", file));
write("bundled/index.html", '<!doctype html><title>bundled</title><script type="module" src="./main.js"></script>');

const { server, url } = await serve({ "": path.join(project, "dist"), bundled: path.join(project, "bundled") });
const { context, close } = await launch();
const failed = await run(context, url, {
    async "a fresh project trains with the package"({ page }) {
        const losses = await page.evaluate(() => globalThis.trained);
        assert.equal(losses.length, 200);
        assert.ok(losses.at(-1) < 0.1, `exclusive or: last loss ${losses.at(-1)}`);
        return `exclusive or, loss ${losses[0].toFixed(2)} to ${losses.at(-1).toFixed(3)}`;
    },
    async "so does what another bundler makes"({ page }) {
        await page.goto(`${url}bundled/index.html`);
        const losses = await page.evaluate(() => globalThis.trained);
        assert.ok(losses.at(-1) < 0.1, `exclusive or: last loss ${losses.at(-1)}`);
        return `the worker and the program beside ${fs.statSync(path.join(project, "bundled/main.js")).size} bytes`;
    },
    async "the README's example runs as it stands"({ page }) {
        await page.waitForFunction(() => globalThis.file, null, { timeout: 120_000 });
        const { said, bytes } = await page.evaluate(() => ({ said: globalThis.said, bytes: globalThis.file.size }));
        const [accuracy] = said.filter((_, index) => index % 3 === 0 && index > 0).slice(-1);
        assert.ok(said.length === 3 * 100 + 3 && accuracy > 0.95 && bytes > 1000, `${said.slice(-6)}, ${bytes} bytes`);
        return `the last batch ${100 * accuracy}% right, weights of ${bytes} bytes`;
    },
});
await close();
server.close();
fs.rmSync(project, { recursive: true, force: true });
process.exit(failed ? 1 : 0);
