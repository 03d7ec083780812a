// The library in headless Chromium: standard workloads against their golden losses, digits learned, drawn and saved, and
// what is wrong refused. Prints a line for each test; the exit code is 1 if one fails.
// Environment: CHROMIUM (the browser), WEBGPU_ADAPTER (swiftshader; "default" where there is a GPU), BENCH=1 (longer runs, step times).
import assert from "node:assert/strict";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";

const web = path.dirname(path.dirname(new URL(import.meta.url).pathname));
const golden = JSON.parse(fs.readFileSync(path.join(web, "../tests/golden/losses.json")));
const types = { ".html": "text/html", ".js": "text/javascript", ".wasm": "application/wasm" };
const bench = process.env.BENCH === "1";

function serve() {
    const server = http.createServer((request, response) => {
        const name = request.url === "/" ? "test/page.html" : request.url.slice(1);
        const file = path.join(web, path.normalize(name));
        if (!file.startsWith(web) || !fs.existsSync(file)) return response.writeHead(request.url === "/favicon.ico" ? 204 : 404).end();
        response.setHeader("content-type", types[path.extname(file)] ?? "application/octet-stream");
        fs.createReadStream(file).pipe(response);
    });
    return new Promise((done) => server.listen(0, "127.0.0.1", () => done(server)));
}

async function open(folder) {
    const adapter = process.env.WEBGPU_ADAPTER ?? "swiftshader";
    const quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
    const args = ["--no-sandbox", "--enable-unsafe-webgpu", ...quiet, ...(adapter === "default" ? [] : [`--use-webgpu-adapter=${adapter}`])];
    return chromium.launchPersistentContext(folder, { executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args });
}

// ---- tests: a name, and what is done in a fresh page

const tests = {
    async "an adapter is opened"({ page }) {
        const said = await page.evaluate(async () => {
            const engine = await wgrad.Engine.open();
            return { adapter: engine.adapter, profile: engine.profile, lost: engine.lost };
        });
        assert.equal(said.lost, undefined);
        return `${said.adapter || "(no name)"}: ${said.profile}`;
    },
    ...Object.fromEntries(["W2", "W3", "W4"].map((name) => [`${name} has the golden losses`, (context) => workload(context, name)])),
    async "digits are learned, read, saved and loaded"({ page }) {
        const found = await page.evaluate(async (steps) => {
            const engine = await wgrad.Engine.open();
            const digits = new wgrad.Digits(engine, steps, 0);
            const first = await digits.step();
            for (let step = 1; step < steps; step++) (await digits.step()).free();
            const test = await digits.test();
            const ring = ["...##...", "..####..", ".##..##.", ".#....#.", ".#....#.", ".##..##.", "..####..", "...##..."].join("");
            const image = Uint8Array.from(ring, (dot) => (dot === "#" ? 16 : 0));
            const zero = await digits.predict(image);
            const bytes = await digits.weights();
            const other = new wgrad.Digits(engine, steps, 1);
            const untrained = await other.test();
            other.load(bytes);
            const again = await other.test();
            const refusals = [];
            for (const wrong of [() => other.predict(new Uint8Array(3)), async () => other.load(bytes.subarray(0, 99)), async () => new wgrad.Workload(engine, "W9", 0)])
                await wrong().then(() => refusals.push("accepted"), (error) => refusals.push(error.message));
            const unharmed = await other.test();
            return {
                first: first.loss, accuracy: test.accuracy, cells: test.confusion.reduce((a, b) => a + b), zero: [...zero],
                bytes: bytes.length, untrained: untrained.accuracy, again: again.accuracy, unharmed: unharmed.accuracy, refusals,
            };
        }, 600);
        assert.ok(Math.abs(found.first - Math.log(10)) < 0.5, `first loss ${found.first}`);
        assert.ok(found.accuracy >= 0.95, `${found.accuracy} of the test digits are right`);
        assert.equal(found.cells, 360);
        assert.ok(Math.abs(found.zero.reduce((a, b) => a + b) - 1) < 1e-4, "probabilities add up to 1");
        assert.ok(found.untrained < 0.5);
        assert.deepEqual([found.again, found.unharmed], [found.accuracy, found.accuracy]);
        assert.match(found.refusals[0], /64 pixels/);
        assert.match(found.refusals[1], /weights/);
        assert.match(found.refusals[2], /W1-N/);
        assert.equal(found.zero.indexOf(Math.max(...found.zero)), 0, `a drawn ring is read as ${found.zero.map((p) => p.toFixed(2))}`);
        return `${(100 * found.accuracy).toFixed(1)}% right, a drawn ring is a 0, weights of ${found.bytes} bytes`;
    },
};

/** Losses of the first steps from the golden file, and how long a step takes. */
async function workload({ page }, name) {
    // After these steps PyTorch's own f32 and f64 part.
    const expected = golden[`${name}/seed0/f64`].slice(0, name === "W2" ? 15 : 20);
    const steps = bench ? 25 : Math.min(expected.length, name === "W4" ? 4 : 15);
    const run = await page.evaluate(
        async ([name, steps]) => {
            const begin = performance.now();
            const engine = await wgrad.Engine.open();
            const work = new wgrad.Workload(engine, name, 0);
            const losses = [], times = [];
            for (let step = 0; step < steps; step++) {
                const start = performance.now();
                losses.push(await work.step());
                times.push(performance.now() - (step ? start : begin));
            }
            return { losses, times, dispatches: work.dispatches };
        },
        [name, steps],
    );
    run.losses.slice(0, expected.length).forEach((loss, step) =>
        assert.ok(Math.abs(loss - expected[step]) <= 1e-4 * Math.abs(expected[step]) + 1e-6, `step ${step + 1}: ${loss}, expected ${expected[step]}`),
    );
    const rest = run.times.slice(1).sort((a, b) => a - b);
    return `first step after ${(run.times[0] / 1e3).toFixed(1)} s, then ${rest[rest.length >> 1].toFixed(0)} ms a step (least ${rest[0].toFixed(0)} ms), ${run.dispatches} dispatches`;
}

const server = await serve();
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "wgrad-browser-"));
const context = await open(folder);
let failed = 0;
for (const [name, test] of Object.entries(tests).filter(([name]) => name.includes(process.argv[2] ?? ""))) {
    const page = await context.newPage();
    const said = [];
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error)));
    try {
        await page.goto(`http://127.0.0.1:${server.address().port}/`);
        await page.waitForFunction(() => window.ready, null, { timeout: 60_000 });
        const note = await test({ page });
        assert.deepEqual(said, [], "the console stays empty");
        console.log(`PASS ${name}: ${note}`);
    } catch (error) {
        failed += 1;
        console.log(`FAIL ${name}: ${error.message.split("\n").slice(0, 4).join(" ")}${said.length ? `; console: ${said.slice(0, 3).join(" | ").slice(0, 900)}` : ""}`);
    }
    await page.close();
}
await Promise.race([context.close(), new Promise((done) => setTimeout(done, 10_000))]);
server.close();
fs.rmSync(folder, { recursive: true, force: true });
console.log(failed ? `${failed} failed` : "all passed in the browser");
process.exit(failed ? 1 : 0);
