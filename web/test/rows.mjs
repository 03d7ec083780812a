// The rows of the operations' tests in Chromium: every value and gradient that the browser's GPU computes against the f64
// reference, with the kernels of a GPU and with those of a software adapter. The argument, a
// pattern, chooses rows by name.
import assert from "node:assert/strict";
import path from "node:path";
import { launch, run, web } from "./browser.mjs";
import { serve } from "./server.mjs";

const open = async (page, url) => {
    await page.goto(url);
    return page.evaluate(async () => {
        const { default: init, Rows } = await import("/test/pkg/in_browser.js");
        await init();
        const rows = await Rows.open();
        // A panic within a promise comes out as an error of the page, and the promise never ends.
        window.attempt = (row) => new Promise((resolve) => {
            const failed = (error) => resolve(["0", String(error)]);
            addEventListener("error", (event) => failed(event.message), { once: true });
            rows.run(row).then(resolve, failed);
        });
        return rows.names();
    });
};

const tests = {
    async "the rows agree with the reference"({ page, url }) {
        const names = await open(page, url);
        let [ran, compared, failures] = [0, 0, []];
        for (const [row, name] of names.entries()) {
            if (!new RegExp(process.argv[2] ?? "").test(name)) continue;
            const begin = performance.now();
            // A panic leaves the program in pieces: the next row gets another.
            const found = await page.evaluate((row) => window.attempt(row), row);
            if (found.some((line) => line.includes("panicked"))) await open(page, url);
            ran += 1;
            compared += Number(found[0]);
            for (const line of found.slice(1)) {
                failures.push(line);
                console.log(`FAIL ${line.startsWith(name) ? line : `${name}: ${line}`}`);
            }
            if (process.env.VERBOSE) console.log(`${name}: ${found[0]} in ${(performance.now() - begin).toFixed(0)} ms`);
        }
        assert.ok(compared > 0, "a row was run");
        assert.equal(failures.length, 0, `${failures.length} of ${compared} tensors differ`);
        return `${ran} of ${names.length} rows, ${compared} values and gradients`;
    },
};

const { server, url } = await serve({ "": web, data: path.join(web, "../data") });
const { context, close } = await launch();
const failed = await run(context, `${url}test/blank.html`, tests);
await close();
server.close();
process.exit(failed ? 1 : 0);
