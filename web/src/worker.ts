// The worker in which everything runs: the wasm program, its models and their training. A page talks to it through comlink.
// Calls are served one after the other; a step is two of the program's, so that a second one is always under way.
import * as Comlink from "comlink";
import init, { Engine, Model, type Pending, Workload } from "../pkg/wgrad.js";
import { fromNumbers, kernelsOf, toNumbers } from "./choices.ts";
import { forgetPlans, recallChoices, recallPlan, rememberChoices, rememberPlan } from "./kept.ts";
import * as opfs from "./opfs.ts";
import type { About, Choices, Definition, GenerateOptions, Kernel, Metrics, Profile, TestResult, TrainOptions } from "./types.ts";

/** Which program this is, so that nothing is taken for its own that another one compiled. */
declare const PROGRAM: string;

/** What programs do not depend on: numbers that are given to them, and what only the host reckons with. A test compiles with each. */
const GIVEN = ["seed", "steps", "lr", "warmup"];

interface Running {
    model: Model;
    /** Ends with the last of its kernels; an error says which could not be compiled. */
    compiling: Promise<void>;
    /** What its plan is kept by. */
    key: string;
    /** Steps that the device has but nobody has waited for: two at most. */
    flying: Pending[];
    checkpoint?: { name: string; every: number };
    last: number;
}

let engine: Engine | undefined;
let memory: WebAssembly.Memory | undefined;
const models = new Map<number, Running>();
/** What choices are kept by, and what they are now. */
let adapter = "";
let kernels: Record<string, Kernel> = {};
/** Ends when what was compiled is kept. */
let remembering: Promise<unknown> = Promise.resolve();
/** Plans that came with the page, by their keys. */
const shipped = new Map<string, Uint8Array>();
let next = 1;
let queue: Promise<unknown> = Promise.resolve();

/** Does this when everything asked before is done. */
function inTurn<T>(work: () => T | Promise<T>): Promise<T> {
    const done = queue.then(work);
    queue = done.catch(() => undefined);
    return done;
}

const known = (value: number): number | undefined => (Number.isNaN(value) ? undefined : value);

function get(id: number): Running {
    const running = models.get(id);
    if (!running) throw new Error("the model was disposed of");
    return running;
}

/** A model whose kernels are compiled. */
async function compiled(id: number): Promise<Model> {
    const { model, compiling } = get(id);
    await compiling;
    return model;
}

/** Waits for the oldest step under way. */
async function land(running: Running): Promise<Metrics> {
    await running.compiling;
    const step = await running.model.wait(running.flying.shift() as Pending);
    const now = performance.now();
    const metrics: Metrics = { step: step.step, loss: step.loss, lr: step.lr, ms: now - running.last };
    const [accuracy, gradNorm] = [known(step.accuracy), known(step.gradNorm)];
    if (accuracy !== undefined) metrics.accuracy = accuracy;
    if (gradNorm !== undefined) metrics.gradNorm = gradNorm;
    running.last = now;
    step.free();
    return metrics;
}

/** Lets steps under way come to their end. */
async function settle(running: Running): Promise<void> {
    while (running.flying.length) await land(running);
}

/** Models that are made from now on have the kernels that were chosen. */
function choose(more: Record<string, Kernel>): void {
    kernels = { ...kernels, ...more };
    engine?.choose(Object.keys(kernels).join("\n"), Uint32Array.from(Object.values(kernels).flatMap(toNumbers)));
}

interface Adapter {
    info: Record<string, string> & { subgroupMinSize?: number; subgroupMaxSize?: number };
    features: ReadonlySet<string>;
    requestDevice(wanted: { requiredFeatures: string[] }): Promise<unknown>;
}

/** Opens the program's device. It asks for no subgroups, since wgpu does not know that browsers have them: that is done for it here. */
async function open(): Promise<Engine> {
    const { GPUAdapter } = globalThis as unknown as { GPUAdapter?: { prototype: Adapter } };
    if (!GPUAdapter) return await Engine.open();
    const { prototype } = GPUAdapter;
    const { requestDevice } = prototype;
    let lanes = 0;
    prototype.requestDevice = function (wanted) {
        const { subgroupMinSize: least = 0, subgroupMaxSize: most } = this.info;
        if (this.features.has("subgroups") && least === most) {
            lanes = least;
            wanted.requiredFeatures = [...wanted.requiredFeatures, "subgroups"];
        }
        return requestDevice.call(this, wanted);
    };
    try {
        const opened = await Engine.open();
        if (lanes) opened.useSubgroups(lanes);
        return opened;
    } finally {
        prototype.requestDevice = requestDevice;
    }
}

/** What the browser says of the adapter that the program opens. */
async function describe(): Promise<string> {
    const { gpu } = navigator as unknown as { gpu: { requestAdapter(options: object): Promise<Adapter | null> } };
    const info = (await gpu.requestAdapter({ powerPreference: "high-performance" }))?.info;
    return [info?.description, info?.vendor, info?.architecture, info?.device].filter(Boolean).join(" ") || "unknown";
}

interface Pipelines {
    pushErrorScope(filter: string): void;
    popErrorScope(): Promise<{ message: string } | null>;
    createComputePipeline(descriptor: object): object;
}

interface Wanted {
    task: unknown;
    model: unknown;
    config: object;
}

function asked({ task, model, config }: Definition, options: TrainOptions): Wanted {
    return { task, model, config: { ...config, ...options } };
}

/** A plan's file: its key, which is JSON in one line, and what the program makes of a model for such a key. */
function readPlan(file: Uint8Array): [string, Uint8Array] {
    const end = file.indexOf(10);
    const key = new TextDecoder().decode(file.subarray(0, end));
    if (end < 0 || !key.startsWith("[")) throw new Error("this is no plan: plans are what `model.plan()` gives");
    return [key, file.subarray(end + 1)];
}

type Told = (((done: number, of: number) => void) & { [Comlink.releaseProxy]?: () => void }) | undefined;

/** Makes something, and sees to the kernels that the browser compiles for it meanwhile: the promise ends with the last, and `told` hears of each. */
function counted<T>(make: () => T, told: Told): [T, Promise<void>] {
    const { GPUDevice } = globalThis as unknown as { GPUDevice?: { prototype: Pipelines } };
    if (!GPUDevice) return [make(), Promise.resolve()];
    const { prototype } = GPUDevice;
    const { createComputePipeline } = prototype;
    const under: Promise<{ message: string } | null>[] = [];
    prototype.createComputePipeline = function (descriptor) {
        // What is asked last is answered when everything before it is done.
        this.pushErrorScope("internal");
        try {
            return createComputePipeline.call(this, descriptor);
        } finally {
            // A device that is lost meanwhile is said by the step that wants it.
            under.push(this.popErrorScope().catch(() => null));
        }
    };
    let made: T;
    try {
        made = make();
    } finally {
        prototype.createComputePipeline = createComputePipeline;
    }
    // Nobody waits for the page, and what it does with the news is its own affair.
    const tell = (done: number) => void Promise.resolve(told?.(done, under.length)).catch(() => undefined);
    let done = 0;
    const all = Promise.all(under.map(async (one) => {
        const error = await one;
        if (error) throw new Error(`the browser could not compile a kernel (please report this): ${error.message}`);
        if (++done < under.length) tell(done);
    })).then(() => tell(done)).finally(() => told?.[Comlink.releaseProxy]?.());
    all.catch(() => undefined); // Whoever needs the kernels says it.
    return [made, all];
}

/** What plans are kept by: all that programs depend on. */
function keyOf(wanted: Wanted, profile: Profile): string {
    const config = Object.fromEntries(Object.entries(wanted.config).filter(([name]) => !GIVEN.includes(name)));
    const chosen = Object.entries(kernels).sort(([a], [b]) => (a < b ? -1 : 1));
    return JSON.stringify([PROGRAM, { ...wanted, config }, profile, chosen]);
}

/** Makes a model, of what was compiled for such a model on the same kind of GPU where there is that: here, or by the one that ships the page. */
async function create(wanted: Wanted, told: Told): Promise<Pick<Running, "model" | "compiling" | "key">> {
    if (!engine) throw new Error("no device is open");
    const device = engine;
    const key = keyOf(wanted, device.profile);
    const plan = (await recallPlan(key)) ?? shipped.get(key);
    const [model, compiling] = counted(() => new Model(device, wanted, plan), told);
    if (!model.reused) {
        const compiled = model.compiled();
        remembering = remembering.then(() => rememberPlan(key, compiled));
    }
    return { model, compiling, key };
}

async function withKernels<T>(more: Record<string, Kernel>, work: () => Promise<T>): Promise<T> {
    const before = kernels;
    choose(more);
    try {
        return await work();
    } finally {
        kernels = before;
        choose({});
    }
}

/** Numbers that are all 0 take as long as others. */
async function timed(definition: Definition, options: TrainOptions): Promise<{ ms: number; loss: number }> {
    const model = new Model(engine as Engine, asked(definition, options));
    try {
        const { batch, context, outputs } = model.about;
        const own = definition.model as { input: number[]; dtype?: string; loss?: string } | undefined;
        const row = own ? own.input.reduce((a, b) => a * b, own.dtype === "uint8" ? 1 : 4) : 64;
        if (context) model.setText(new Uint8Array(20 * (context + batch)), 0.5);
        else model.setArrays(new Uint8Array(batch * row), new Uint8Array(4 * batch * (own?.loss === "mse" ? outputs : 1)));
        let [ms, loss, begin] = [Number.POSITIVE_INFINITY, 0, performance.now()];
        // The first two compile, and fill what a GPU keeps at hand.
        for (let step = 0; step < 5 || (step < 50 && performance.now() - begin < 150); step++) {
            const start = performance.now();
            const done = await model.wait(model.submit());
            if (step < 5) loss = done.loss;
            if (step === 1) begin = performance.now();
            if (step > 1) ms = Math.min(ms, performance.now() - start);
            done.free();
        }
        return { ms, loss };
    } finally {
        model.free();
    }
}

async function checkpoint(running: Running): Promise<void> {
    if (running.checkpoint) await opfs.save(running.checkpoint.name, await running.model.checkpoint());
}

const host = {
    async open(wasm: string | undefined, choices: Choices | undefined): Promise<{ adapter: string; profile: Profile }> {
        const program = await init({ module_or_path: wasm ?? new URL("./wgrad_bg.wasm", import.meta.url) });
        memory = program.memory;
        engine = await open();
        adapter = await describe();
        choose({ ...(choices && kernelsOf(choices, adapter)), ...(await recallChoices(adapter)) });
        return { adapter, profile: engine.profile };
    },

    /** Plans that the page brought. */
    ship(files: Uint8Array[]): void {
        for (const file of files) shipped.set(...readPlan(file));
    },

    /** The products of a model, those that take most of a step first, and the kernels that each may have, that of the rules first. */
    products(definition: Definition, options: TrainOptions): Promise<{ product: string; candidates: Kernel[] }[]> {
        return inTurn(() => {
            if (!engine) throw new Error("no device is open");
            const rows = engine.products(asked(definition, options)).split("\n").slice(0, -1).map((line) => {
                const [product = "", ...numbers] = line.split("\t");
                const [work = 0, ...all] = numbers.map(Number);
                return { product, work, candidates: Array.from({ length: all.length / 5 }, (_, at) => fromNumbers(all.slice(5 * at, 5 * at + 5))) };
            });
            return rows.filter(({ work }) => work > 0).sort((a, b) => b.work - a.work);
        });
    },

    /** The least milliseconds of a step, and the loss after a few, of a model that has these kernels beside those that were chosen. */
    time(definition: Definition, options: TrainOptions, more: Record<string, Kernel>): Promise<{ ms: number; loss: number }> {
        return inTurn(() => withKernels(more, () => timed(definition, options)));
    },

    /** Models have this kernel from now on. */
    keepChoice(product: string, kernel: Kernel): Promise<void> {
        return inTurn(() => {
            choose({ [product]: kernel });
            return rememberChoices(adapter, kernels);
        });
    },

    choices: (): Choices => ({ format: 1, adapters: { [adapter]: kernels } }),

    forgetChoices(): Promise<void> {
        return inTurn(async () => {
            kernels = {};
            choose({});
            await rememberChoices(adapter, undefined);
        });
    },

    forgetPlans(): Promise<void> {
        return inTurn(async () => {
            await remembering;
            await forgetPlans();
        });
    },

    create(definition: Definition, options: TrainOptions, told: Told): Promise<{ id: number; about: About; reused: boolean }> {
        return inTurn(async () => {
            const made = await create(asked(definition, options), told);
            const id = next++;
            models.set(id, { ...made, flying: [], last: performance.now() });
            return { id, about: made.model.about, reused: made.model.reused };
        });
    },

    plan(id: number): Promise<Uint8Array> {
        return inTurn(() => {
            const { model, key } = get(id);
            const [line, compiled] = [new TextEncoder().encode(`${key}\n`), model.compiled()];
            const file = new Uint8Array(line.length + compiled.length);
            file.set(line);
            file.set(compiled, line.length);
            return file;
        });
    },

    setArrays(id: number, inputs: Uint8Array, targets: Uint8Array): Promise<void> {
        return inTurn(() => get(id).model.setArrays(inputs, targets));
    },

    setText(id: number, text: Uint8Array, validation: number): Promise<void> {
        return inTurn(() => get(id).model.setText(text, validation));
    },

    keep(id: number, where: { name: string; every: number } | undefined): Promise<void> {
        return inTurn(() => {
            const running = get(id);
            if (where) running.checkpoint = where;
            else delete running.checkpoint;
        });
    },

    /** The metrics of the next step, or nothing when so many are made. */
    step(id: number, steps: number): Promise<Metrics | undefined> {
        return inTurn(async () => {
            const running = get(id);
            if (!running.flying.length) running.last = performance.now();
            while (running.flying.length < 2 && running.model.stepsDone < steps) running.flying.push(running.model.submit());
            if (!running.flying.length) return undefined;
            const metrics = await land(running);
            const { checkpoint: kept } = running;
            const ends = !running.flying.length;
            if (kept && (metrics.step % kept.every === 0 || ends)) await checkpoint(running);
            return metrics;
        });
    },

    /** No further step; those under way are made. Gives how many there are then. */
    pause(id: number, save: boolean): Promise<number> {
        return inTurn(async () => {
            const running = get(id);
            await settle(running);
            if (save) await checkpoint(running);
            return running.model.stepsDone;
        });
    },

    evaluate(id: number, inputs: Uint8Array, targets: Uint8Array): Promise<TestResult> {
        return inTurn(async () => {
            const test = await (await compiled(id)).evaluate(inputs, targets);
            const result: TestResult = { loss: test.loss };
            const accuracy = known(test.accuracy);
            if (accuracy !== undefined) {
                const [cells, classes] = [test.confusion, Math.sqrt(test.confusion.length)];
                result.accuracy = accuracy;
                result.confusion = Array.from({ length: classes }, (_, row) => [...cells.subarray(row * classes, (row + 1) * classes)]);
            }
            test.free();
            return result;
        });
    },

    evaluateText: (id: number, batches: number): Promise<number> => inTurn(async () => (await compiled(id)).evaluateText(batches)),

    predict: (id: number, inputs: Uint8Array): Promise<Float32Array> => inTurn(async () => (await compiled(id)).predict(inputs)),

    generate(id: number, prompt: Uint8Array, options: GenerateOptions): Promise<Uint8Array> {
        const { count = 200, temperature = 0.8, topK = 40, seed = 0 } = options;
        return inTurn(async () => (await compiled(id)).generate(prompt, count, temperature, topK, seed));
    },

    observe: (id: number, loss: number): Promise<boolean> => inTurn(() => get(id).model.observe(loss)),

    weights: (id: number): Promise<Uint8Array> => inTurn(() => get(id).model.weights()),

    load(id: number, bytes: Uint8Array): Promise<void> {
        return inTurn(async () => {
            await settle(get(id));
            get(id).model.load(bytes);
        });
    },

    /** Goes on with what was saved under a name; the steps made, or nothing if there is no such file. */
    resume(id: number, name: string): Promise<number | undefined> {
        return inTurn(async () => {
            const running = get(id);
            await settle(running);
            const bytes = await opfs.load(name);
            if (!bytes) return undefined;
            running.model.resume(bytes);
            return running.model.stepsDone;
        });
    },

    saveFile: (name: string, bytes: Uint8Array): Promise<void> => inTurn(() => opfs.save(name, bytes)),
    loadFile: (name: string): Promise<Uint8Array | undefined> => inTurn(() => opfs.load(name)),
    removeFile: (name: string): Promise<void> => inTurn(() => opfs.remove(name)),

    dispose(id: number): Promise<void> {
        return inTurn(async () => {
            const running = models.get(id);
            if (!running) return;
            await settle(running).catch(() => undefined);
            models.delete(id);
            running.model.free();
        });
    },

    /** A standard workload: milliseconds of each step, the first one from its building on. */
    workload(name: string, steps: number): Promise<{ first: number; times: number[]; losses: number[]; dispatches: number; memoryBytes: number }> {
        return inTurn(async () => {
            if (!engine) throw new Error("no device is open");
            const begin = performance.now();
            const work = new Workload(engine, name, 0);
            const losses = [await work.step()];
            const first = performance.now() - begin;
            const times: number[] = [];
            for (let step = 1; step < steps; step++) {
                const start = performance.now();
                losses.push(await work.step());
                times.push((performance.now() - start) / work.parts);
            }
            const { dispatches, memoryBytes } = work;
            work.free();
            return { first, times, losses, dispatches, memoryBytes };
        });
    },

    state: (): { lost: string | undefined; wasmBytes: number } => ({ lost: engine?.lost, wasmBytes: memory?.buffer.byteLength ?? 0 }),
};

export type Host = typeof host;
Comlink.expose(host);
