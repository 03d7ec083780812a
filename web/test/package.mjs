// The package in Chromium: standard workloads against their golden losses; models of layers, digits and texts trained, stopped,
// saved, loaded and resumed; what is wrong refused.
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { bench, launch, run, web } from "./browser.mjs";
import { serve } from "./server.mjs";

const golden = JSON.parse(fs.readFileSync(path.join(web, "../tests/golden/losses.json")));

const tests = {
    async "a device is opened"({ page }) {
        const said = await page.evaluate(async () => {
            const device = await ready;
            return { adapter: device.adapter, profile: device.profile, state: await device.state() };
        });
        assert.equal(said.state.lost, undefined);
        assert.ok(said.profile.maxBindingBytes >= 128 << 20);
        return `${said.adapter || "(no name)"}, ${said.profile.class}, ${said.state.wasmBytes >> 20} MiB of wasm memory`;
    },
    ...Object.fromEntries(["W2", "W3", "W4"].map((name) => [`${name} has the golden losses`, (context) => workload(context, name)])),
    "digits are learned by the tool's network, read and carried to another": digitsNet,
    "layers learn digits, stop, resume bit for bit": layers,
    "a tab that is closed in mid-training is gone on with in the next, and a torn checkpoint is left alone": closed,
    "numbers are learned": numbers,
    "a text is learned, continued and saved for the tool": text,
    "a thousand steps take no memory, and disposing gives it back": memory,
    "a device lost in mid-training ends in a message, and the run goes on from its checkpoint": lost,
    "a GPU process that crashes in mid-training ends in a message, and the run goes on from its checkpoint": crashed,
    "a tab in the background goes on, and one that was frozen comes back": background,
    "kernels are measured, kept and shipped": kernels,
    "compiled plans are kept and shipped": plans,
    "every rule and schedule of the tool's configuration": rules,
    "what is wrong is refused": refusals,
};

/** Losses of the first steps from the golden file, and how long a step takes. */
async function workload({ page }, name) {
    // After these steps PyTorch's own f32 and f64 part.
    const expected = golden[`${name}/seed0/f64`].slice(0, name === "W2" ? 15 : 20);
    const steps = bench ? 25 : Math.min(expected.length, name === "W4" ? 4 : 15);
    const run = await page.evaluate(async ([name, steps]) => (await ready).workload(name, steps), [name, steps]);
    run.losses.slice(0, expected.length).forEach((loss, step) =>
        assert.ok(Math.abs(loss - expected[step]) <= 1e-4 * Math.abs(expected[step]) + 1e-6, `step ${step + 1}: ${loss}, expected ${expected[step]}`),
    );
    const rest = run.times.sort((a, b) => a - b);
    return `first step after ${(run.first / 1e3).toFixed(1)} s, then ${rest[rest.length >> 1].toFixed(0)} ms a step (least ${rest[0].toFixed(0)} ms), ${run.dispatches} dispatches`;
}

async function digitsNet({ page }) {
    const found = await page.evaluate(async () => {
        const [device, data] = [await ready, await digits()];
        const model = await device.model(wgrad.digitsNet(), { steps: 600 });
        const losses = [];
        for await (const { loss } of model.fit(data.training)) losses.push(loss);
        const test = await model.evaluate(data.test.inputs, data.test.targets);
        const ring = ["...##...", "..####..", ".##..##.", ".#....#.", ".#....#.", ".##..##.", "..####..", "...##..."].join("");
        const [zero] = await model.predict(Uint8Array.from(ring, (dot) => (dot === "#" ? 16 : 0)));
        const file = await model.weights();
        const other = await device.model(wgrad.digitsNet(), { seed: 1 });
        const untrained = await other.evaluate(data.test.inputs, data.test.targets);
        await other.load(file);
        const again = await other.evaluate(data.test.inputs, data.test.targets);
        const refused = [await refusal(other.predict(new Uint8Array(3))), await refusal(other.load(file.slice(0, 999)))];
        const unharmed = await other.evaluate(data.test.inputs, data.test.targets);
        const { tensors } = await wgrad.readSafetensors(file);
        const filters = wgrad.values(tensors.get("conv1.weight")).length;
        return { losses, test, zero: [...zero], untrained, again, unharmed, refused, filters, bytes: file.size };
    });
    assert.equal(found.losses.length, 600);
    assert.ok(Math.abs(found.losses[0] - Math.log(10)) < 0.5, `first loss ${found.losses[0]}`);
    assert.ok(found.test.accuracy >= 0.95, `${found.test.accuracy} of the test digits are right`);
    assert.equal(found.test.confusion.flat().reduce((a, b) => a + b), 360);
    assert.ok(Math.abs(found.zero.reduce((a, b) => a + b) - 1) < 1e-4, "probabilities add up to 1");
    assert.equal(found.zero.indexOf(Math.max(...found.zero)), 0, `a drawn ring is read as ${found.zero.map((p) => p.toFixed(2))}`);
    assert.ok(found.untrained.accuracy < 0.5);
    assert.deepEqual([found.again, found.unharmed], [found.test, found.test]);
    assert.match(found.refused[0], /not a whole number of rows/);
    assert.match(found.refused[1], /safetensors/);
    assert.equal(found.filters, 16 * 9);
    return `${(100 * found.test.accuracy).toFixed(1)}% right, a drawn ring is a 0, weights of ${found.bytes} bytes`;
}

async function layers({ page, url }) {
    const define = `
        window.net = (seed) => {
            const { sequential, conv2d, batchNorm, relu, maxPool2d, residual, flatten, dropout, linear } = wgrad;
            const definition = sequential({ input: [1, 8, 8], dtype: "uint8", white: 16 }, [
                conv2d(16, 3, { padding: 1 }), batchNorm(), relu(), residual([conv2d(16, 3, { padding: 1 }), relu()]),
                maxPool2d(2), flatten(), dropout(0.1), linear(64), relu(), linear(10),
            ]);
            return device.model(definition, { batch: 32, steps: 300, lr: 3e-3, seed, shift: 0.1 });
        };`;
    const first = await page.evaluate(async (define) => {
        const [, data] = [await ready, await digits()];
        eval(define);
        const straight = await net(7);
        const losses = [];
        for await (const { loss } of straight.fit(data.training)) losses.push(loss);
        const test = await straight.evaluate(data.test.inputs, data.test.targets);
        await straight.dispose();
        const disposed = await refusal(straight.predict(data.test.inputs));
        // Another run of the same seed is aborted; what was saved is found again by a page that knows nothing of it.
        const stopped = await net(7);
        const control = new AbortController();
        const seen = [];
        let after = 0;
        const outcome = await refusal((async () => {
            for await (const { step, loss } of stopped.fit(data.training, { signal: control.signal, checkpoint: { name: "layers", every: 20 } })) {
                seen.push(loss);
                if (step === 100) {
                    after = performance.now();
                    control.abort();
                }
            }
        })());
        after = performance.now() - after;
        return { losses, seen, test, disposed, outcome, after };
    }, define);
    assert.ok(first.test.accuracy >= 0.95, `${first.test.accuracy} of the test digits are right`);
    assert.match(first.disposed, /disposed/);
    assert.match(first.outcome, /^AbortError/);
    assert.deepEqual(first.seen, first.losses.slice(0, 100), "the same seed gives the same losses");
    await page.goto(url);
    const second = await page.evaluate(async (define) => {
        const [, data] = [await ready, await digits()];
        eval(define);
        const resumed = await net(0);
        const from = await resumed.resume("layers");
        const rest = [];
        for await (const { loss } of resumed.fit(data.training)) rest.push(loss);
        await device.forget("layers");
        return { from, rest, gone: await resumed.resume("layers") };
    }, define);
    assert.ok(second.from >= 100 && second.from <= 102, `resumed after step ${second.from}`);
    assert.deepEqual(second.rest, first.losses.slice(second.from), "the resumed run is the one that was not stopped");
    assert.equal(second.gone, undefined);
    return `${(100 * first.test.accuracy).toFixed(1)}% right after 300 steps, aborted in ${first.after.toFixed(0)} ms, resumed after step ${second.from}`;
}

async function closed({ page, url }) {
    const define = `window.net = async () => {
            const definition = wgrad.sequential({ input: [64] }, [wgrad.linear(96), wgrad.relu(), wgrad.dropout(0.1), wgrad.linear(10)]);
            return (await ready).model(definition, { batch: 32, seed: 5, steps: 1e6 });
        };
        window.train = async (model, steps, seen, checkpoint) => {
            const data = { inputs: Float32Array.from({ length: 64 * 320 }, (_, i) => Math.sin(i)), targets: Int32Array.from({ length: 320 }, (_, i) => (i * i) % 10) };
            for await (const { loss } of model.fit(data, { steps, checkpoint })) {
                seen.push(loss);
                // The next checkpoint, which closing the tab could cut off, is not begun.
                if (window.halt === seen.length) await new Promise(() => {});
            }
        };
        // Takes the head from the newest of the two files, as if the tab had been closed while it was written.
        window.tear = async (name) => {
            const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle("wgrad");
            const files = await Promise.all(["a", "b"].map(async (slot) => {
                const handle = await folder.getFileHandle(name + "." + slot);
                return { handle, serial: new DataView(await (await handle.getFile()).slice(0, 16).arrayBuffer()).getFloat64(8, true) };
            }));
            const { handle } = files.reduce((a, b) => (a.serial > b.serial ? a : b));
            const file = await handle.createWritable({ keepExistingData: true });
            await file.write({ type: "write", position: 0, data: new Uint8Array(16) });
            await file.close();
        };`;
    const tab = await page.context().newPage();
    await tab.goto(url);
    await tab.evaluate((define) => {
        eval(define);
        [window.seen, window.halt] = [[], 25];
        void net().then((model) => train(model, 1e6, window.seen, { name: "closing", every: 10 }));
    }, define);
    await tab.waitForFunction(() => window.seen.length === 25);
    await tab.close();
    const found = await page.evaluate(async (define) => {
        eval(define);
        const [rest, straight, steps] = [[], [], []];
        const model = await net();
        steps.push(await model.resume("closing"));
        await tear("closing");
        steps.push(await model.resume("closing"));
        await train(model, steps[1] + 15, rest);
        await train(await net(), steps[1] + 15, straight);
        await tear("closing");
        steps.push(await model.resume("closing"));
        await device.forget("closing");
        return { steps, rest, straight };
    }, define);
    const [newest, before, none] = found.steps;
    // With a step or none under way at each tenth.
    assert.ok(newest >= 20 && newest % 10 <= 1 && newest - before >= 9 && newest - before <= 11 && none === undefined, `${found.steps}`);
    assert.deepEqual(found.rest, found.straight.slice(before), "it is the run that was not closed");
    return `closed after a checkpoint of step ${newest}; that was torn, and the run went on from step ${before}`;
}

async function numbers({ page }) {
    const found = await page.evaluate(async () => {
        const device = await ready;
        const { sequential, linear, tanh } = wgrad;
        const model = await device.model(sequential({ input: [1], loss: "mse" }, [linear(32), tanh(), linear(32), tanh(), linear(1)]), { batch: 64, steps: 500, lr: 1e-2 });
        const inputs = Float32Array.from({ length: 256 }, (_, i) => i / 128 - 1);
        const targets = inputs.map((x) => Math.sin(3 * x));
        let last;
        for await (const metrics of model.fit({ inputs, targets })) last = metrics;
        const { loss, accuracy } = await model.evaluate(inputs, targets);
        const [at] = await model.predict([0.5]);
        return { last, loss, accuracy, at: at[0] };
    });
    assert.equal(found.last.step, 500);
    assert.equal(found.accuracy, undefined);
    assert.ok(found.loss < 1e-3, `mean square ${found.loss}`);
    assert.ok(Math.abs(found.at - Math.sin(1.5)) < 0.1, `sin(1.5) is ${found.at}`);
    return `mean square ${found.loss.toExponential(1)}, sin(1.5) is ${found.at.toFixed(3)}`;
}

async function text({ page }) {
    const found = await page.evaluate(async () => {
        const device = await ready;
        const model = await device.model(wgrad.gpt({ layers: 1, heads: 2, width: 32, context: 32 }), { batch: 8, steps: 150, lr: 1e-2 });
        const data = { text: "the quick brown fox jumps over the lazy dog. ".repeat(60) };
        const losses = [];
        for await (const { loss } of model.fit(data)) losses.push(loss);
        const heldOut = await model.evaluateText(2);
        const continued = await model.generate("the quick ", { count: 20, temperature: 0 });
        await model.save("fox");
        const { metadata } = await wgrad.readSafetensors(await model.weights());
        const other = await device.model(wgrad.gpt({ layers: 1, heads: 2, width: 32, context: 32 }), { seed: 5 });
        await other.load("opfs:fox");
        return { losses, heldOut, continued, metadata, again: await other.generate("the quick ", { count: 20, temperature: 0 }) };
    });
    assert.ok(Math.abs(found.losses[0] - Math.log(256)) < 0.3, `first loss ${found.losses[0]}`);
    assert.ok(found.losses.at(-1) < 1 && found.heldOut < 1, `last loss ${found.losses.at(-1)}, held out ${found.heldOut}`);
    assert.match(found.continued, /brown fox/);
    assert.equal(found.again, found.continued);
    assert.deepEqual(found.metadata, { "model.context": "32", "model.heads": "2", "model.layers": "1", "model.width": "32" });
    return `loss ${found.losses[0].toFixed(2)} to ${found.losses.at(-1).toFixed(2)}; "the quick " is continued by "${found.continued}"`;
}

/** Counts the bytes of the GPU's buffers in the worker itself. */
async function memory({ page }) {
    const found = await page.evaluate(async () => {
        const counting = `
            import "${new URL("../dist/worker.js", location.href)}";
            let bytes = 0;
            const { createBuffer } = GPUDevice.prototype, { destroy } = GPUBuffer.prototype;
            GPUDevice.prototype.createBuffer = function (about) { bytes += about.size; return createBuffer.call(this, about); };
            const gone = new WeakSet(); // A buffer that programs share is destroyed by each.
            GPUBuffer.prototype.destroy = function () { if (!gone.has(this)) bytes -= this.size; gone.add(this); return destroy.call(this); };
            const channel = new BroadcastChannel("bytes");
            channel.onmessage = () => channel.postMessage(bytes);`;
        const worker = new Worker(URL.createObjectURL(new Blob([counting], { type: "text/javascript" })), { type: "module" });
        const device = await wgrad.open({ worker, wasm: new URL("../dist/wgrad_bg.wasm", location.href) });
        const channel = new BroadcastChannel("bytes");
        const gpu = () => new Promise((resolve) => {
            channel.onmessage = ({ data }) => resolve(data);
            channel.postMessage("how many?");
        });
        const { linear, relu, sequential } = wgrad;
        const model = await device.model(sequential({ input: [8] }, [linear(32), relu(), linear(4)]), { batch: 16, steps: 1100 });
        const data = { inputs: Float32Array.from({ length: 512 }, (_, i) => Math.sin(i)), targets: Int32Array.from({ length: 64 }, (_, i) => i % 4) };
        for await (const _ of model.fit(data, { steps: 100 }));
        const before = [await gpu(), (await device.state()).wasmBytes];
        for await (const _ of model.fit(data, { steps: 1100 }));
        const after = [await gpu(), (await device.state()).wasmBytes];
        await model.dispose();
        return { before, after, planned: model.about.memoryBytes, left: await gpu() };
    });
    assert.deepEqual(found.after, found.before, "1,000 steps take no memory");
    assert.equal(found.before[0], found.planned, "the buffers are those that were planned");
    assert.equal(found.left, 0, "disposing frees all");
    return `${found.planned} bytes on the GPU and ${found.after[1] >> 10} KiB of wasm memory before and after, none of the GPU's after disposing`;
}

/** The page destroys the device under the training; what a page can do about it is to open another and resume. */
async function lost({ page }) {
    const found = await page.evaluate(async () => {
        const catching = `
            const { requestDevice } = GPUAdapter.prototype;
            let device;
            GPUAdapter.prototype.requestDevice = async function (about) { return (device = await requestDevice.call(this, about)); };
            new BroadcastChannel("destroy").onmessage = () => device.destroy();
            import("${new URL("../dist/worker.js", location.href)}").then(() => postMessage("started"));`;
        const worker = new Worker(URL.createObjectURL(new Blob([catching], { type: "text/javascript" })), { type: "module" });
        await new Promise((resolve) => worker.addEventListener("message", resolve, { once: true }));
        const { linear, relu, sequential } = wgrad;
        const data = { inputs: Float32Array.from({ length: 512 }, (_, i) => Math.sin(i)), targets: Int32Array.from({ length: 64 }, (_, i) => i % 4) };
        const make = (device, seed) => device.model(sequential({ input: [8] }, [linear(32), relu(), linear(4)]), { batch: 16, steps: 120, seed });
        const straight = [];
        for await (const { loss } of (await make(await ready, 5)).fit(data)) straight.push(loss);
        const device = await wgrad.open({ worker, wasm: new URL("../dist/wgrad_bg.wasm", location.href) });
        const model = await make(device, 5);
        const seen = [];
        const outcome = await refusal((async () => {
            for await (const { step, loss } of model.fit(data, { checkpoint: { name: "lost", every: 20 } })) {
                seen.push(loss);
                if (step === 50) new BroadcastChannel("destroy").postMessage("now");
            }
        })());
        const said = (await device.state()).lost;
        const after = [await refusal(model.predict(new Float32Array(8))), await refusal(make(device, 5))];
        await model.dispose();
        device.close();
        const another = await wgrad.open();
        const resumed = await make(another, 0);
        const from = await resumed.resume("lost");
        const rest = [];
        for await (const { loss } of resumed.fit(data)) rest.push(loss);
        await another.forget("lost");
        another.close();
        return { straight, seen, outcome, said, after, from, rest };
    });
    assert.match(found.outcome, /device was lost/);
    assert.ok(found.said, "the state says that the device is lost");
    found.after.forEach((message) => assert.match(message, /device was lost/));
    assert.ok(found.seen.length >= 50 && found.seen.length < 120, `stopped after step ${found.seen.length}`);
    assert.deepEqual(found.seen, found.straight.slice(0, found.seen.length));
    // Up to two steps are under way when a checkpoint is due; it holds them too.
    assert.ok(found.from >= 40 && found.from % 20 <= 2, `resumed after step ${found.from}`);
    assert.deepEqual(found.rest, found.straight.slice(found.from), "the resumed run is the one that kept its device");
    return `stopped after step ${found.seen.length} (${found.outcome.slice(0, 60)}), resumed after step ${found.from}`;
}

/** What the tests of interruptions train, in the page. */
const SMALL = `
    window.make = (device, steps, seed) => {
        const { linear, relu, sequential } = wgrad;
        return device.model(sequential({ input: [8] }, [linear(32), relu(), linear(4)]), { batch: 16, steps, seed });
    };
    window.data = { inputs: Float32Array.from({ length: 512 }, (_, i) => Math.sin(i)), targets: Int32Array.from({ length: 64 }, (_, i) => i % 4) };
    window.straight = async (device, steps) => {
        const losses = [];
        for await (const { loss } of (await make(device, steps, 5)).fit(data)) losses.push(loss);
        return losses;
    };
    window.seen = [];`;

/** The browser's own process for GPUs ends, and with it every device. */
async function crashed({ page, context }) {
    await page.evaluate(async (small) => {
        eval(small);
        const device = await ready;
        window.expected = await straight(device, 400);
        const model = await make(device, 400, 5);
        window.outcome = refusal((async () => {
            for await (const { loss } of model.fit(data, { checkpoint: { name: "crashed", every: 20 } })) seen.push(loss);
        })());
    }, SMALL);
    await page.waitForFunction(() => seen.length >= 50, undefined, { timeout: 600_000, polling: 20 });
    await (await context.browser().newBrowserCDPSession()).send("Browser.crashGpuProcess");
    const found = await page.evaluate(async () => {
        const said = await outcome;
        device.close();
        const another = await wgrad.open();
        const resumed = await make(another, 400, 0);
        const from = await resumed.resume("crashed");
        const rest = [];
        for await (const { loss } of resumed.fit(data)) rest.push(loss);
        await another.forget("crashed");
        another.close();
        return { said, seen, from, rest, expected };
    });
    assert.match(found.said, /device was lost: the browser took it away/);
    assert.ok(found.seen.length < 400, "the crash came in mid-training");
    assert.deepEqual(found.seen, found.expected.slice(0, found.seen.length));
    assert.ok(found.from >= found.seen.length - 22, `resumed after step ${found.from}`);
    assert.deepEqual(found.rest, found.expected.slice(found.from), "the resumed run is the one without a crash");
    return `stopped after step ${found.seen.length}, resumed after step ${found.from}: ${found.said}`;
}

/** A headless browser hides no tab; what it lets be done is to take the focus away, and to freeze the page as phones do. */
async function background({ page, context }) {
    await page.evaluate(async (small) => {
        eval(small);
        const device = await ready;
        window.expected = await straight(device, 300);
        const model = await make(device, 300, 5);
        window.focus = [];
        window.run = (async () => {
            for await (const { loss } of model.fit(data)) {
                seen.push(loss);
                focus.push(document.hasFocus());
            }
        })();
    }, SMALL);
    const session = await context.newCDPSession(page);
    await session.send("Emulation.setFocusEmulationEnabled", { enabled: false });
    const front = await context.newPage();
    await front.goto("about:blank");
    await front.bringToFront();
    const behind = await page.evaluate(() => seen.length);
    await page.waitForFunction((least) => seen.length >= least, Math.min(300, behind + 30), { timeout: 600_000, polling: 20 });
    await session.send("Page.setWebLifecycleState", { state: "frozen" });
    await front.waitForTimeout(1500);
    await session.send("Page.setWebLifecycleState", { state: "active" });
    const found = await page.evaluate(async () => {
        await run;
        return { seen, focus, expected };
    });
    await front.close();
    assert.deepEqual(found.seen, found.expected, "the losses are those of a tab in front");
    const without = found.focus.filter((had) => !had).length;
    assert.ok(without >= 30, `${without} steps without the focus`);
    return `${without} of ${found.seen.length} steps behind another tab, with a pause in which the page was frozen`;
}

/** Of one page, of a page that is loaded after it, and of one that knows nothing but what it is shipped with. */
async function kernels({ page, url }) {
    const define = `window.net = () => wgrad.sequential({ input: [64] }, [wgrad.linear(96), wgrad.relu(), wgrad.linear(10)]);
        window.used = async (device) => {
            const model = await device.model(net(), { batch: 32, seed: 2 });
            const data = { inputs: Float32Array.from({ length: 64 * 32 }, (_, i) => Math.sin(i)), targets: Int32Array.from({ length: 32 }, (_, i) => i % 10) };
            const losses = [];
            for await (const { loss } of model.fit(data, { steps: 5 })) losses.push(loss);
            return { losses, names: model.about.plan.map(([, name]) => name) };
        };`;
    const first = await page.evaluate(async (define) => {
        eval(define);
        const device = await ready;
        const seen = [];
        for await (const tuned of device.tune(net(), { batch: 32 })) seen.push(tuned);
        return { seen, choices: await device.choices(), adapter: device.adapter };
    }, define);
    const own = first.choices.adapters[first.adapter];
    assert.ok(first.seen.length >= 3, `${first.seen.length} products`);
    assert.deepEqual(first.seen.map(({ index }) => index), first.seen.map((_, index) => index + 1));
    for (const { product, kernel, ms, ruleMs } of first.seen) {
        assert.ok(ms > 0 && ms <= ruleMs, `${product}: ${ms} of ${ruleMs} ms`);
        assert.deepEqual(own[product], kernel);
    }
    await page.goto(url);
    const second = await page.evaluate(async (define) => {
        eval(define);
        const device = await ready;
        const choices = await device.choices();
        await device.forgetChoices();
        const empty = await device.choices();
        const plain = await used(device);
        const every = { format: 1, adapters: { [device.adapter]: Object.fromEntries(Object.keys(choices.adapters[device.adapter]).map((product) => [product, "Direct"])) } };
        const shipped = await wgrad.open({ choices: every });
        const direct = await used(shipped);
        shipped.close();
        const wrong = { format: 1, adapters: { [device.adapter]: { "a product": { Tiled: { rows: -1 } } } } };
        const refused = [await refusal(wgrad.open({ choices: { adapters: {} } })), await refusal(wgrad.open({ choices: wrong }))];
        return { choices, empty, plain, direct, refused };
    }, define);
    assert.deepEqual(second.choices, first.choices, "they are found again");
    assert.deepEqual(second.empty.adapters[first.adapter], {});
    const direct = ({ names }) => names.filter((name) => /direct/.test(name)).length;
    assert.ok(direct(second.direct) > direct(second.plain), `${second.plain.names} and ${second.direct.names}`);
    second.direct.losses.forEach((loss, step) => assert.ok(Math.abs(loss - second.plain.losses[step]) < 1e-4, "other kernels, the same losses"));
    assert.match(second.refused[0], /no choices of kernels/);
    assert.match(second.refused[1], /"a product".* is no kernel/);
    const better = first.seen.filter(({ ms, ruleMs }) => ms < ruleMs).length;
    return `${first.seen.length} products of ${first.adapter}, ${better} with another kernel than the rules'; kept, shipped and refused`;
}

/** Kept by one page, found by the next, shipped with a third; what is torn or of another model is compiled anew. */
async function plans({ page, url }) {
    const define = `window.net = (width) => wgrad.sequential({ input: [64] }, [wgrad.linear(width), wgrad.relu(), wgrad.linear(10)]);
        window.used = async (device, width = 48, options = {}) => {
            let ready = "";
            const stages = [];
            const model = await device.model(net(width), { batch: 32, seed: 3, clip: 1, ...options }, (stage, what, part) => {
                ready = what;
                stages.push(stage === "compile" ? part : stage);
            });
            const data = { inputs: Float32Array.from({ length: 64 * 32 }, (_, i) => Math.sin(i)), targets: Int32Array.from({ length: 32 }, (_, i) => i % 10) };
            const losses = [];
            for await (const { loss } of model.fit(data, { steps: 5 })) losses.push(loss);
            const test = await model.evaluate(data.inputs, data.targets);
            return { reused: ready.includes("planned before"), stages, losses, test: test.loss, plan: model.about.plan, memory: model.about.memoryBytes, file: await model.plan() };
        };`;
    const first = await page.evaluate(async (define) => {
        eval(define);
        await (await ready).forgetPlans();
        const { file, ...made } = await used(await ready);
        window.same = async (a, b) => new Uint8Array(await a.arrayBuffer()).join() === new Uint8Array(await b.arrayBuffer()).join();
        const { file: again, ...found } = await used(await ready);
        const other = await used(await ready, 49);
        // What a program is given as it runs is not in it: each of these alone would be found again, and is compiled anew here.
        const alone = [];
        for (const options of [{ seed: 9 }, { steps: 77 }, { lr: 0.5 }, { warmup: 3 }]) {
            await (await ready).forgetPlans();
            const { reused, file: alike } = await used(await ready, 48, options);
            alone.push(!reused && (await same(file, alike)));
        }
        const given = await used(await ready, 48, { seed: 10, steps: 99, lr: 0.25, warmup: 7 });
        const clipped = await used(await ready, 48, { clip: 2 });
        return { made, found, size: file.size, same: await same(file, again), other: other.reused, given: [...alone, given.reused, !clipped.reused] };
    }, define);
    assert.ok(!first.made.reused && first.found.reused && first.same && !first.other, "it is compiled once");
    const { stages, ...made } = first.made;
    const { stages: _, ...found } = first.found;
    assert.deepEqual({ ...found, reused: false }, made, "what was kept trains and tests alike");
    assert.deepEqual(first.given, first.given.map(() => true), "seed, steps and rates are no part of it");
    const parts = stages.slice(1, -1);
    assert.deepEqual([stages[0], stages.at(-1), parts.at(-1)], ["plan", "ready", 1], `${stages}`);
    assert.ok(parts.length >= 5 && parts.every((part, index) => Math.abs(part - (index + 1) / parts.length) < 1e-9), `${stages}`);
    await page.goto(url);
    const second = await page.evaluate(async (define) => {
        eval(define);
        const found = await used(await ready);
        await (await ready).forgetPlans();
        const forgotten = await used(await ready);
        await (await ready).forgetPlans();
        const plan = new Uint8Array(await found.file.arrayBuffer());
        const withPlan = async (file, width) => {
            const device = await wgrad.open({ plans: [file] });
            const { reused, losses } = await used(device, width);
            await device.forgetPlans();
            device.close();
            return { reused, losses };
        };
        const address = URL.createObjectURL(found.file);
        const torn = plan.map((byte, at) => (at === plan.length - 2000 ? byte ^ 1 : byte));
        const end = plan.indexOf(10);
        // The key of this model with the programs of another.
        const other = new Uint8Array(await (await used(await ready, 49)).file.arrayBuffer());
        const mixed = new Uint8Array([...plan.subarray(0, end), ...other.subarray(other.indexOf(10))]);
        const shipped = [];
        for (const file of [plan, address, torn, mixed]) shipped.push(await withPlan(file));
        const refused = [await refusal(wgrad.open({ plans: [new Uint8Array(9)] })), await refusal(wgrad.open({ plans: [new Response("", { status: 404 })] }))];
        return { found: [found, forgotten].map(({ reused, losses }) => ({ reused, losses })), shipped, refused };
    }, define);
    assert.deepEqual([...second.found, ...second.shipped].map(({ reused }) => reused), [true, false, true, true, false, false]);
    for (const { losses } of [...second.found, ...second.shipped]) assert.deepEqual(losses, first.made.losses);
    assert.match(second.refused[0], /this is no plan/);
    assert.match(second.refused[1], /404/);
    return `${first.size} bytes; kept, shipped, forgotten, and compiled anew where torn or of another model`;
}

/** Names, options and defaults are the configuration's; that rules and schedules are PyTorch's is tested natively. */
async function rules({ page }) {
    const found = await page.evaluate(async (small) => {
        eval(small);
        const device = await ready;
        const { linear, relu, sequential } = wgrad;
        const net = sequential({ input: [8] }, [linear(32), relu(), linear(4)]);
        const run = async (options, definition = net, what = data, observed) => {
            const model = await device.model(definition, { batch: 16, steps: 20, warmup: 0, seed: 1, ...options });
            const [losses, rates] = [[], []];
            for await (const { loss, lr } of model.fit(what)) {
                losses.push(loss);
                rates.push(lr);
                if (observed) await model.observe(observed);
            }
            await model.dispose();
            return { losses, rates };
        };
        const optimizers = {};
        for (const name of ["adamw", "adam", "adamw8bit", "sgd", "rmsprop", "adagrad", "adadelta", "adafactor", "lion"]) optimizers[name] = (await run({ optimizer: name })).losses;
        optimizers.momentum = (await run({ optimizer: { name: "sgd", momentum: 0.9, nesterov: true } })).losses;
        optimizers.muon = (await run({ optimizer: { name: "muon", nsSteps: 3, adjustLrFn: "match_rms_adamw" } }, wgrad.gpt({ layers: 1, heads: 2, width: 16, context: 16 }), { text: "abcabd".repeat(200) })).losses;
        const schedules = {};
        for (const name of ["constant", "onecycle", "cosine", "linear", "polynomial", "restarts", "stable"]) schedules[name] = (await run({ schedule: name, lr: 0.01 })).rates;
        schedules.low = (await run({ schedule: { name: "linear", minLr: 0.009 }, lr: 0.01 })).rates;
        schedules.plateau = (await run({ schedule: { name: "plateau", patience: 3 }, lr: 0.01 }, net, data, 1)).rates;
        const make = (options) => refusal(device.model(net, options));
        const refused = [
            await make({ optimizer: "adamx" }), await make({ schedule: { name: "stepped" } }), await make({ optimizer: { name: "sgd", beta1: 0.5 } }),
            await make({ schedule: { name: "cosine", minlr: 1 } }), await make({ precision: "f8" }),
        ];
        const averaged = (await run({ ema: 0.9, emaWarmup: true, recompute: true })).losses;
        return { optimizers, schedules, refused, averaged };
    }, SMALL);
    for (const [name, losses] of Object.entries(found.optimizers)) assert.ok(losses.length === 20 && losses.every(Number.isFinite) && losses.at(-1) < losses[0], `${name}: ${losses}`);
    // Without decay Adam is AdamW, and of small tensors the moments are not in eight bits.
    const { adam: _, adamw8bit: __, ...different } = found.optimizers;
    assert.equal(new Set(Object.values(different).map((losses) => losses.at(-1))).size, 9, "no two rules are the same");
    const { constant, linear, low, stable, plateau, ...others } = found.schedules;
    assert.ok(constant.every((lr) => lr === 0.01) && stable.slice(0, 16).every((lr) => lr === 0.01) && stable.at(-1) < 0.01);
    assert.ok(linear.every((lr, step) => Math.abs(lr - (0.01 - (0.009 * step) / 20)) < 6e-4) && low.at(-1) >= 0.009 && low.at(-1) < 0.0092, `${linear}; ${low}`);
    assert.ok(plateau.some((lr) => lr === 0.005) && plateau[0] === 0.01, `${plateau}`);
    for (const [name, rates] of Object.entries(others)) assert.ok(new Set(rates).size >= 5, `${name}: ${rates}`);
    const expected = [/optimizers are adamw, .*muon, got `adamx`/, /schedules are cosine, .*plateau, got `stepped`/, /sgd has no use for this/, /there is no `minlr`/, /precisions are f32, f16 and bf16/];
    expected.forEach((pattern, i) => assert.match(found.refused[i], pattern));
    assert.deepEqual(found.averaged, found.optimizers.adamw, "a running mean of the weights changes no training");
    return `${Object.keys(found.optimizers).length} ways to update, ${Object.keys(found.schedules).length} rates, ${found.refused.length} mistakes`;
}

async function refusals({ page }) {
    const found = await page.evaluate(async () => {
        const device = await ready;
        const { sequential, linear, gpt, maxPool2d } = wgrad;
        const make = (definition, options) => refusal(device.model(definition, options));
        const small = await device.model(sequential({ input: [3] }, [linear(2)]), { batch: 4 });
        const fit = async (data) => {
            for await (const _ of small.fit(data)) return "trained";
        };
        return [
            await make(sequential({ input: [3] }, ["rellu"])),
            await make(sequential({ input: [3] }, [{ linear: { featurs: 3 } }])),
            await make(sequential({ input: [1, 4, 4] }, [linear(4), maxPool2d(9)])),
            await make(sequential({ input: [1, 4, 4] }, [linear(4)])),
            await make(sequential({ input: [3] }, [linear(2)]), { lr: -1 }),
            await make(sequential({ input: [3] }, [linear(2)]), { batchSize: 3 }),
            await make(gpt({ width: 33, heads: 2 })),
            await refusal(fit({ inputs: [1, 2, 3, 4], targets: [0] })),
            await refusal(fit({ inputs: [1, 2, 3, 4, 5, 6], targets: [0] })),
            await refusal(fit({ text: "no text is wanted" })),
            await refusal(small.load("opfs:nothing")),
            await refusal(small.load(new Uint8Array(20))),
        ];
    });
    const expected = [
        /no layer `rellu`/, /no `featurs`|`features` is missing/, /layer 1: /, /flatten/, /train\.lr must be/, /no `batchSize`/, /multiple of model\.heads/,
        /whole number of rows/, /has 2 rows, but `labels` has 1/, /a model of text/, /nothing was saved/, /safetensors/,
    ];
    expected.forEach((pattern, i) => assert.match(found[i], pattern));
    return `${found.length} mistakes, such as: ${found[2].slice(0, 90)}`;
}

const { server, url } = await serve({ "": web, data: path.join(web, "../data") });
const { context, close } = await launch();
const failed = await run(context, `${url}test/page.html`, tests, process.argv[2]);
await close();
server.close();
console.log(failed ? `${failed} failed` : "the package passed in the browser");
process.exit(failed ? 1 : 0);
