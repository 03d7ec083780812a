// The rows of the operations' tests in Chromium: values and gradients that the browser's GPU computes against the f64 reference, with
// the kernels of a GPU and with those of a software adapter, with and without subgroups. `--few` takes two small samples of each row; another argument,
// a pattern, chooses rows by name.
import assert from "node:assert/strict";
import path from "node:path";
import { launch, listen, run, web } from "./browser.mjs";
import { serve } from "./server.mjs";

const few = process.argv.includes("--few");
const pattern = new RegExp(process.argv.slice(2).find((word) => !word.startsWith("--")) ?? "");
/** Samples of one program, of one page and of one browser, about: a device keeps the kernels that it was given, and the process that
 *  executes a software adapter's those of all devices there ever were. */
const [TOGETHER, OF_A_PAGE, OF_A_BROWSER] = [8, 32, 256];

/** A page with a new device; the rows' names and how many samples each has. */
const open = async (page, url) => {
    await page.goto(url);
    return page.evaluate(async () => {
        const { default: init, Rows } = await import("/test/pkg/in_browser.js");
        await init();
        // Subgroups are asked for as the package's worker does it.
        const { requestDevice } = GPUAdapter.prototype;
        let lanes = 0;
        GPUAdapter.prototype.requestDevice = function (wanted) {
            if (this.features.has("subgroups") && this.info.subgroupMinSize === this.info.subgroupMaxSize) lanes = this.info.subgroupMinSize;
            return requestDevice.call(this, lanes ? { ...wanted, requiredFeatures: [...wanted.requiredFeatures, "subgroups"] } : wanted);
        };
        const rows = await Rows.open();
        if (lanes) rows.use_subgroups(lanes);
        // A panic within a promise comes out as an error of the page, and the promise never ends.
        window.attempt = (...which) => new Promise((resolve) => {
            const failed = (error) => resolve(["0", String(error)]);
            addEventListener("error", (event) => failed(event.message), { once: true });
            rows.run(...which).then(resolve, failed);
        });
        return rows.names().map((name, row) => ({ name, row, samples: rows.samples(row) }));
    });
};

/** Which samples are run together. The first of a row are its least, of nothing or of one number. */
function parts(samples) {
    if (few) return [[Math.min(2, samples - 2), Math.min(4, samples)]];
    return Array.from({ length: Math.ceil(samples / TOGETHER) }, (_, part) => [part * TOGETHER, Math.min(samples, (part + 1) * TOGETHER)]);
}

const tests = {
    async "the rows agree with the reference"({ url, said }) {
        let browser = null;
        const renew = async () => {
            await browser?.close();
            browser = await launch();
            const page = await browser.context.newPage();
            listen(page, said);
            return page;
        };
        let page = await renew();
        const rows = await open(page, url);
        const chosen = rows.filter(({ name }) => pattern.test(name));
        let [compared, held, inBrowser, failures] = [0, 0, 0, []];
        for (const { name, row, samples } of chosen) {
            const begin = performance.now();
            let own = 0;
            for (const [from, to] of parts(samples)) {
                const found = await page.evaluate((which) => window.attempt(...which), [row, from, to]);
                own += Number(found[0]);
                held += to - from;
                inBrowser += to - from;
                for (const line of found.slice(1)) {
                    failures.push(line);
                    console.log(`FAIL ${line.startsWith(name) ? line : `${name}: ${line}`}`);
                }
                // A panic leaves the program in pieces.
                if (held >= OF_A_PAGE || found.some((line) => line.includes("panicked"))) {
                    if (inBrowser >= OF_A_BROWSER) {
                        page = await renew();
                        inBrowser = 0;
                    }
                    await open(page, url);
                    held = 0;
                }
            }
            compared += own;
            if (process.env.VERBOSE) console.log(`${name}: ${own} in ${(performance.now() - begin).toFixed(0)} ms`);
        }
        await browser.close();
        assert.ok(compared > 0, "a row was run");
        assert.equal(failures.length, 0, `${failures.length} of ${compared} tensors differ`);
        return `${chosen.length} of ${rows.length} rows, ${few ? "two samples of each" : "all samples"}, ${compared} values and gradients`;
    },
};

const { server, url } = await serve({ "": web, data: path.join(web, "../data") });
const { context, close } = await launch();
const failed = await run(context, `${url}test/blank.html`, tests);
await close();
server.close();
process.exit(failed ? 1 : 0);
