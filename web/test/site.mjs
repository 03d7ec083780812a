// The demo site in Chromium: each part learns, stops, is resumed after a reload and after the loss of the GPU; a drawn digit is read;
// weights go to the command line tool and back; and pictures of every part stay in web/screenshots to be looked at.
// Environment: as browser.mjs; WGRAD, the command line tool (or target/release/wgrad, target/debug/wgrad).
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { launch, run, web } from "./browser.mjs";
import { serve } from "./server.mjs";

const shots = path.join(web, "screenshots");
const work = fs.mkdtempSync(path.join(os.tmpdir(), "wgrad-site-"));
/** Learning on a software adapter beside other work takes its time. */
const PATIENCE = { timeout: 600_000, polling: 200 };

const number = (page, id) => page.evaluate((id) => Number.parseFloat(document.getElementById(id).textContent.replaceAll(",", "")), id);
const until = (page, condition, argument) => page.waitForFunction(condition, argument, PATIENCE);
async function steps(page, id, least) {
    try {
        await until(page, ([id, least]) => Number(document.getElementById(id).textContent.replaceAll(",", "")) >= least, [id, least]);
    } catch (error) {
        throw new Error(`#${id} is ${await number(page, id)}, not ${least}: ${error.message}`);
    }
}
async function says(page, id, words) {
    try {
        await until(page, ([id, words]) => new RegExp(words).test(document.getElementById(id).textContent), [id, words]);
    } catch (error) {
        throw new Error(`#${id} does not say "${words}" but "${await page.evaluate((id) => document.getElementById(id).textContent, id)}": ${error.message}`);
    }
}

/** Nothing reaches out of the page, to the side or to the network. */
async function isTight(page, url) {
    const outside = await page.evaluate((url) => performance.getEntriesByType("resource").map(({ name }) => name).filter((name) => !name.startsWith(url) && !name.startsWith("data:") && !name.startsWith("blob:")), url);
    assert.deepEqual(outside, [], "no request leaves the site");
    const [wide, has] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= has, `the page is ${wide} wide in a window of ${has}`);
}

/** Every control has a name, and every heading follows in order. */
async function isAccessible(page) {
    const found = await page.evaluate(() => {
        const seen = (element) => element.getClientRects().length > 0;
        const controls = [...document.querySelectorAll("button, input, select, textarea, a, canvas[tabindex]")].filter(seen);
        const unnamed = controls.filter((it) => !(it.ariaLabel || it.textContent.trim() || [...(it.labels ?? [])].some((label) => label.textContent.trim())));
        const pictures = [...document.querySelectorAll("svg:not([aria-hidden]), [role=img]")].filter((it) => seen(it) && !it.closest("[aria-hidden=true]") && !it.ariaLabel);
        const small = controls.filter((it) => it.matches("button, .button, select") && it.getBoundingClientRect().height < 38).map((it) => it.textContent || it.id);
        return { unnamed: unnamed.map((it) => it.outerHTML.slice(0, 80)), pictures: pictures.map((it) => it.outerHTML.slice(0, 80)), small };
    });
    assert.deepEqual(found, { unnamed: [], pictures: [], small: [] });
}

/** The part of the page at three widths and in both themes, in files to look at. */
async function picture(page, name) {
    const before = page.viewportSize();
    for (const [kind, theme, width] of [["light", "light", 1280], ["dark", "dark", 1280], ["phone", "light", 390], ["phone-dark", "dark", 390]]) {
        await page.setViewportSize({ width, height: width > 600 ? 900 : 844 });
        await page.evaluate((theme) => {
            document.documentElement.dataset.theme = theme;
            document.dispatchEvent(new Event("themechange"));
        }, theme);
        await page.waitForTimeout(300);
        const [wide, has] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(wide <= has, `${name}, ${kind}: ${wide} wide in a window of ${has}`);
        await page.screenshot({ path: path.join(shots, `${name}-${kind}.png`), fullPage: true });
    }
    await page.setViewportSize(before);
}

/** Strokes of the ten digits in parts of the sheet, as somebody writes them. */
const arc = (x, y, width, height, from, to, dots = 24) =>
    Array.from({ length: dots + 1 }, (_, i) => {
        const angle = ((from + ((to - from) * i) / dots) * Math.PI) / 180;
        return [x + width * Math.cos(angle), y + height * Math.sin(angle)];
    });
const DIGITS = {
    0: [arc(0.5, 0.5, 0.2, 0.32, -90, 270)],
    1: [[[0.42, 0.3], [0.54, 0.18], [0.54, 0.82]]],
    2: [[...arc(0.5, 0.36, 0.18, 0.17, 190, 380), [0.34, 0.8], [0.7, 0.8]]],
    3: [[...arc(0.48, 0.33, 0.18, 0.16, 200, 440), ...arc(0.48, 0.65, 0.2, 0.17, -90, 150)]],
    4: [[[0.55, 0.18], [0.32, 0.58], [0.7, 0.58]], [[0.6, 0.42], [0.58, 0.84]]],
    7: [[[0.32, 0.2], [0.68, 0.2], [0.46, 0.82]], [[0.4, 0.5], [0.66, 0.5]]],
};

async function draw(page, strokes) {
    await page.locator("#pad-clear").click();
    await page.locator("#pad").scrollIntoViewIfNeeded();
    const box = await page.locator("#pad").boundingBox();
    for (const stroke of strokes) {
        for (const [index, [x, y]] of stroke.entries()) {
            await page.mouse.move(box.x + x * box.width, box.y + y * box.height);
            if (!index) await page.mouse.down();
        }
        await page.mouse.up();
    }
    // The last question that the drawing asked is answered.
    await until(page, () => document.getElementById("reading").dataset.digit !== "");
    await page.waitForTimeout(500);
}

const reading = (page) => page.evaluate(() => document.getElementById("reading").textContent);

const tests = {
    "digits are learned, a drawing is read, and one's own are learned too": digits,
    "the digits' network stops, and goes on after a reload": resumes,
    "a lost GPU is told, and the training goes on": lost,
    "a text is learned, and its weights go to the tool and back": text,
    "the GPU is told, measured and compared": gpu,
    "by keyboard": keyboard,
};

async function digits({ page, url }) {
    await until(page, () => performance.getEntriesByName("first-step").length);
    const cold = await page.evaluate(() => performance.getEntriesByName("first-step")[0].startTime);
    await until(page, () => Number.parseFloat(document.getElementById("digits-accuracy").textContent) >= 95);
    const learned = await number(page, "digits-step");
    await isTight(page, url);
    await isAccessible(page);
    await says(page, "digits-status", "learned enough");
    const read = [];
    for (const [digit, strokes] of Object.entries(DIGITS)) {
        await draw(page, strokes);
        const found = await page.evaluate(() => document.getElementById("reading").dataset.digit);
        read.push(`${digit}${found === digit ? "" : ` as ${found}`}`);
    }
    assert.ok(read.filter((word) => word.length === 1).length >= 5, `read ${read.join(", ")}`);
    const percents = await page.locator("#bars span:last-child").allTextContents();
    assert.ok(Math.abs(percents.map(Number.parseFloat).reduce((a, b) => a + b) - 100) <= 5, percents.join(" "));
    assert.equal(await page.locator("#filters canvas").count(), 16);
    const cells = (await page.locator("#confusion tbody td").allTextContents()).map(Number);
    assert.equal(cells.reduce((a, b) => a + b), 360);
    await picture(page, "draw");
    // A figure that is no digit is taught to be a 5.
    const before = await number(page, "digits-step");
    const odd = [[[0.3, 0.2], [0.7, 0.2]], [[0.3, 0.5], [0.7, 0.5]], [[0.3, 0.8], [0.7, 0.8]]];
    await draw(page, odd);
    await page.locator("#teach button").nth(5).click();
    await steps(page, "digits-step", before + 50);
    await says(page, "digits-status", "learned enough");
    await draw(page, odd);
    assert.match(await reading(page), /^Read as 5/);
    assert.equal(await page.locator("#own-list button").count(), 1);
    const after = await number(page, "digits-accuracy");
    assert.ok(after >= 94, `${after}% after the drawing`);
    return `95% right within ${learned} steps, first step ${(cold / 1000).toFixed(1)} s after loading; drawn digits read: ${read.join(", ")}; three bars were learned as a 5`;
}

/** In the same browser as the digits: the program comes from its cache. */
async function resumes({ page, url }) {
    const anew = async (least) => {
        await page.locator("#digits-reset").click();
        await until(page, (least) => {
            const step = Number(document.getElementById("digits-step").textContent);
            return step >= least && !document.getElementById("digits-reset").disabled;
        }, least);
        // It compiled a network anew, and says no more how far that was.
        await says(page, "digits-status", "^Learning");
        await page.locator("#digits-run").click();
        await says(page, "digits-status", "^Stopped");
    };
    await says(page, "digits-status", "enough|Draw a digit while");
    await anew(30);
    const stopped = await number(page, "digits-step");
    await page.waitForTimeout(1000);
    const still = await number(page, "digits-step");
    assert.equal(still, stopped, "nothing is learned after stopping");
    await page.reload();
    await until(page, () => Number(document.getElementById("digits-step").textContent) > 0);
    const again = await number(page, "digits-step");
    assert.ok(again >= stopped && again <= stopped + 4, `stopped at ${stopped}, found at ${again}`);
    await steps(page, "digits-step", again + 10);
    // Another training, with no checkpoint but the site's files in the browser's cache, and with what was compiled or without.
    await anew(1);
    const first = async (forget) => {
        await page.evaluate(async (forget) => {
            await (await navigator.storage.getDirectory()).removeEntry("wgrad", { recursive: true });
            const opening = indexedDB.open("wgrad");
            await new Promise((resolve) => (opening.onsuccess = resolve));
            const store = opening.result.transaction("plans", "readwrite").objectStore("plans");
            if (forget) await new Promise((resolve) => (store.clear().onsuccess = resolve));
            opening.result.close();
        }, forget);
        const fresh = await page.context().newPage();
        await fresh.goto(url);
        await until(fresh, () => performance.getEntriesByName("first-step").length);
        const seconds = await fresh.evaluate(() => performance.getEntriesByName("first-step")[0].startTime / 1000);
        await fresh.close();
        return seconds.toFixed(1);
    };
    const [compiled, kept] = [await first(true), await first(false)];
    return `stopped at step ${stopped}, went on at ${again}; first step after loading with a warm cache ${compiled} s, with the plan of an earlier visit ${kept} s`;
}

/** The worker of the page gives its GPU away, so that it can be destroyed under the training. */
async function lost({ page, url }) {
    const catching = `{
        const { requestDevice } = GPUAdapter.prototype;
        GPUAdapter.prototype.requestDevice = async function (...about) { return (self.caught = await requestDevice.apply(this, about)); };
    }\n`;
    await page.route(/worker-.*\.js$/, async (route) => {
        const response = await route.fetch();
        await route.fulfill({ response, body: catching + (await response.text()) });
    });
    await page.goto(`${url}?lost`);
    await steps(page, "digits-step", 5);
    const worker = page.workers()[0];
    await worker.evaluate(() => self.caught.destroy());
    await until(page, () => document.querySelector('.notice[data-key="digits"]')?.textContent.includes("It is back"));
    const notice = await page.locator('.notice[data-key="digits"] p').textContent();
    const from = Number(notice.match(/goes on after step (\d+)|begins anew/)[1] ?? 0);
    await steps(page, "digits-step", from + 5);
    await page.locator('.notice[data-key="digits"]').screenshot({ path: path.join(shots, "lost.png") });
    return notice;
}

async function text({ page, url }) {
    await page.locator("nav a", { hasText: "Your text" }).click();
    await until(page, () => document.getElementById("text-input").value.startsWith("Chapter 1"));
    await page.locator("summary", { hasText: "More about" }).click();
    for (const [id, value] of Object.entries({ layers: 1, heads: 2, width: 32, context: 32, batch: 8, steps: 120, lr: 0.01 })) await page.locator(`#text-${id}`).fill(String(value));
    assert.equal(await page.locator("#text-size").inputValue(), "own");
    await page.locator("#text-run").click();
    await steps(page, "text-step", 3);
    const begun = await number(page, "text-loss");
    await page.locator("#text-run").click();
    await says(page, "text-status", "^Stopped");
    const stopped = await number(page, "text-step");
    await page.reload();
    await says(page, "text-run", "Go on after step");
    assert.equal(await number(page, "text-step"), stopped);
    await page.locator("#text-run").click();
    await says(page, "text-status", "read enough");
    assert.equal(await number(page, "text-step"), 120);
    const [ended, rate] = [await number(page, "text-loss"), await number(page, "text-rate")];
    assert.ok(begun > 4 && ended < begun - 1.5, `loss ${begun} to ${ended}`);
    assert.ok(rate > 0);
    const samples = await page.locator("#samples li p").allTextContents();
    assert.ok(samples.length >= 5 && samples.every((sample) => sample.startsWith("It is a")), `${samples.length} samples`);
    await isTight(page, url);
    await isAccessible(page);
    await picture(page, "text");

    const waiting = page.waitForEvent("download");
    await page.locator("#text-download").click();
    const file = path.join(work, (await waiting).suggestedFilename());
    await (await waiting).saveAs(file);
    const tool = toolOf();
    fs.writeFileSync(path.join(work, "text.txt"), await page.locator("#text-input").inputValue());
    const told = (...words) => execFileSync(tool, words, { cwd: work, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
    const written = told("sample", "--weights", file, "--prompt", "It is", "--tokens", "40");
    assert.ok(written.startsWith("It is"), written);
    told("train", "--weights", file, "--data", "text.txt", "--out", "run", "--steps", "20", "--batch", "8", "--lr", "0.003", "--eval-every", "20");
    const [{ loss }] = fs.readFileSync(path.join(work, "run/metrics.jsonl"), "utf8").trim().split("\n").map(JSON.parse);
    assert.ok(Math.abs(loss - ended) < 0.4, `the tool's first loss is ${loss}, the page's last was ${ended}`);

    await page.locator("#text-reset").click();
    await says(page, "text-run", "Start learning");
    await page.locator("#text-weights").setInputFiles(path.join(work, "run/best.safetensors"));
    await says(page, "text-status", "is loaded");
    await page.locator("#text-steps").fill("10");
    await page.locator("#text-run").click();
    await says(page, "text-status", "read enough");
    const back = await number(page, "text-loss");
    assert.ok(Math.abs(back - loss) < 0.5, `the page goes on at ${back}, the tool began at ${loss}`);
    fs.writeFileSync(path.join(work, "bad.safetensors"), "no weights");
    await page.locator("#text-weights").setInputFiles(path.join(work, "bad.safetensors"));
    await says(page, "text-status", "not a safetensors file");
    return `loss ${begun} to ${ended}, ${rate} letters a second, resumed after step ${stopped}; the tool began at ${loss.toFixed(2)}, and the page again at ${back}`;
}

function toolOf() {
    if (process.env.WGRAD) return path.resolve(process.env.WGRAD);
    const target = process.env.CARGO_TARGET_DIR ?? path.join(web, "../target");
    const found = [path.join(target, "release/wgrad"), path.join(target, "debug/wgrad")].filter(fs.existsSync);
    assert.ok(found.length, "the command line tool is not built: cargo build --bin wgrad");
    return path.resolve(found.map((file) => [fs.statSync(file).mtimeMs, file]).sort((a, b) => b[0] - a[0])[0][1]);
}

async function gpu({ page, url }) {
    await steps(page, "digits-step", 1);
    await page.locator("#digits-run").click();
    await says(page, "digits-status", "^Stopped|enough");
    await page.locator("nav a", { hasText: "Your GPU" }).click();
    await says(page, "adapter", "Largest buffer");
    assert.ok((await page.locator("#features li").count()) > 0);
    await says(page, "plan-about", "kernel launches a step");
    assert.ok((await page.locator("#plan svg path").count()) >= 5);
    await page.locator("#bench-run").click();
    await says(page, "bench-status", "^Measured|ended");
    assert.match(await page.locator("#bench-status").textContent(), /^Measured/);
    const waiting = page.waitForEvent("download");
    await page.locator("#bench-download").click();
    const file = path.join(work, "bench.json");
    await (await waiting).saveAs(file);
    const report = JSON.parse(fs.readFileSync(file));
    assert.deepEqual(Object.keys(report.results), ["W1-512", "W2", "W3", "W4"]);
    assert.ok(Object.values(report.results).every(({ median_ms, min_ms }) => min_ms > 0 && median_ms >= min_ms));
    fs.writeFileSync(file, JSON.stringify({ ...report, adapter: "a friend's GPU" }));
    await page.locator("#bench-file").setInputFiles(file);
    await says(page, "bench-table", "a friend's GPU");
    await isTight(page, url);
    await isAccessible(page);
    await picture(page, "gpu");
    fs.writeFileSync(file, "{}");
    await page.locator("#bench-file").setInputFiles(file);
    await says(page, "bench-note", "not a result of this page");
    return Object.entries(report.results).map(([name, { median_ms, min_ms }]) => `${name} ${median_ms.toFixed(0)} ms (least ${min_ms.toFixed(0)})`).join(", ");
}

async function keyboard({ page }) {
    await steps(page, "digits-step", 1);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    const reached = [];
    for (let press = 0; press < 60; press++) {
        await page.keyboard.press("Tab");
        reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim()));
    }
    for (const id of ["theme", "digits-run", "digits-reset", "pad-clear", "pad", "Draw and learn", "Your GPU", "7"]) assert.ok(reached.includes(id), `${id} is reached by Tab: ${reached}`);
    // A 1: down to the end of the sheet.
    await page.locator("#pad").focus();
    await page.keyboard.press("Space");
    for (let press = 0; press < 12; press++) await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Space");
    await until(page, () => document.getElementById("reading").dataset.digit !== "");
    await page.keyboard.press("Delete");
    await says(page, "reading", "Nothing drawn");
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
    const before = await theme();
    await page.locator("#theme").press("Enter");
    assert.notEqual(await theme(), before);
    await page.reload();
    assert.notEqual(await theme(), before, "the theme is remembered");
    await page.locator("nav a", { hasText: "Your text" }).press("Enter");
    await until(page, () => !document.getElementById("text").hidden && document.title.startsWith("A language model"));
    return `${new Set(reached).size} places by Tab, a stroke by the arrow keys`;
}

const without = {
    async "without a GPU the page says so, and what to do"({ page, url }) {
        const shown = await told(page, url, ["found no GPU", "hardware acceleration", "chrome://flags/#enable-unsafe-webgpu"]);
        await picture(page, "without");
        return shown;
    },
    async "without WebGPU the page says so, and which browsers have it"({ page, url }) {
        await page.addInitScript(() => delete Navigator.prototype.gpu);
        await page.reload();
        return told(page, url, ["has no WebGPU", "Chrome or Edge 113", "Safari 26", "Firefox 141", "chrome://flags/#enable-unsafe-webgpu"]);
    },
};

async function told(page, url, words) {
    await page.locator("#no-webgpu").waitFor();
    const shown = await page.locator("#no-webgpu").innerText();
    for (const word of words) assert.ok(shown.includes(word), `${word} in: ${shown}`);
    assert.equal(await page.locator(".part:visible").count(), 0);
    await isTight(page, url);
    await isAccessible(page);
    return shown.split("\n").filter(Boolean)[1];
}

fs.mkdirSync(shots, { recursive: true });
const { server, url } = await serve({ "": path.join(web, "site/dist") });
let failed = 0;
for (const [suite, options] of [[tests, {}], [without, { withoutWebGpu: true }]]) {
    const { context, close } = await launch({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, ...options });
    failed += await run(context, url, suite, process.argv[2]);
    await close();
}
server.close();
fs.rmSync(work, { recursive: true, force: true });
console.log(failed ? `${failed} failed` : "the demo site passed in the browser");
process.exit(failed ? 1 : 0);
