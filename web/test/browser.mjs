// Headless Chromium with WebGPU, and the loop that every suite of tests runs in.
// Environment: CHROMIUM (the browser), WEBGPU_ADAPTER (swiftshader; "default" where there is a GPU), BENCH=1 (longer runs).
import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";

export const web = path.dirname(path.dirname(new URL(import.meta.url).pathname));
export const bench = process.env.BENCH === "1";

/** A browser with an empty profile; `close` removes it. */
export async function launch(options = {}) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "wgrad-browser-"));
    const adapter = process.env.WEBGPU_ADAPTER ?? "swiftshader";
    const quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
    const gpu = options.withoutWebGpu ? ["--disable-features=WebGPU"] : ["--enable-unsafe-webgpu", ...(adapter === "default" ? [] : [`--use-webgpu-adapter=${adapter}`])];
    const context = await chromium.launchPersistentContext(folder, {
        executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", headless: true, args: ["--no-sandbox", ...gpu, ...quiet], ...options,
    });
    const close = async () => {
        await Promise.race([context.close(), new Promise((done) => setTimeout(done, 10_000))]);
        fs.rmSync(folder, { recursive: true, force: true });
    };
    return { context, close };
}

/** Adds what a page's console is told of errors and warnings. */
export function listen(page, said) {
    page.on("console", (message) => ["error", "warning"].includes(message.type()) && said.push(message.text()));
    page.on("pageerror", (error) => said.push(String(error)));
}

/** Runs tests, each in a fresh page whose console must stay empty (`said` is what it was told); `filter` chooses by name. Gives how many failed. */
export async function run(context, url, tests, filter = "") {
    let failed = 0;
    for (const [name, test] of Object.entries(tests).filter(([name]) => name.includes(filter))) {
        const page = await context.newPage();
        const said = [];
        listen(page, said);
        const begin = performance.now();
        const took = () => `${((performance.now() - begin) / 1000).toFixed(1)} s`;
        try {
            await page.goto(url);
            const note = await test({ page, context, url, said });
            assert.deepEqual(said, [], "the console stays empty");
            console.log(`PASS ${name} (${took()}): ${note}`);
        } catch (error) {
            failed += 1;
            const console_ = said.length ? `; console: ${said.slice(0, 3).join(" | ").slice(0, 900)}` : "";
            console.log(`FAIL ${name} (${took()}): ${String(error.message).split("\n").slice(0, 6).join(" ")}${console_}`);
        }
        await page.close();
    }
    return failed;
}
