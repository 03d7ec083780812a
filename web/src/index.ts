/**
 * Trains neural networks in the browser through WebGPU. Everything runs in a worker of its own: a page never waits.
 *
 * Open a device, make a model of layers, and iterate over its training; the README has an example.
 */
import * as Comlink from "comlink";
import { Model } from "./model.ts";
import { read } from "./sources.ts";
import type { Choices, Definition, Kernel, Profile, Progress, Source, TrainOptions, Tuned } from "./types.ts";
import type { Host } from "./worker.ts";

export * from "./layers.ts";
export * from "./safetensors.ts";
export type * from "./types.ts";
export { Model };

/** Why there is no device. */
export class NoDeviceError extends Error {
    override readonly name = "NoDeviceError";
    /** `insecure`: the page is not served by HTTPS. `unsupported`: the browser has no WebGPU. `adapter`: it has no GPU for it. */
    readonly reason: "insecure" | "unsupported" | "adapter";

    constructor(reason: NoDeviceError["reason"], message: string) {
        super(message);
        this.reason = reason;
    }
}

export interface OpenOptions {
    /** Where `wgrad_bg.wasm` lies, if not beside the worker. */
    wasm?: string | URL;
    /** A worker made from `wgrad/worker`, if the bundler does not find it. */
    worker?: Worker;
    /** Choices of kernels that come with the page; what was measured in this browser goes before them. */
    choices?: Choices;
    /** Compiled plans that come with the page, each from {@link Model.plan}: what fits none of its models and this GPU is left alone. */
    plans?: readonly Source[];
    onProgress?: Progress;
}

/** What a standard workload took. */
export interface BenchResult {
    /** Milliseconds from nothing to the end of the first step. */
    first: number;
    /** Milliseconds of each later step; of W1, of one product. */
    times: number[];
    losses: number[];
    dispatches: number;
    memoryBytes: number;
}

/** An open GPU. */
export class Device {
    /** What the browser calls the adapter; browsers say little about it. Choices of kernels are kept by it. */
    readonly adapter: string;
    readonly profile: Profile;
    readonly #worker: Worker;
    readonly #host: Comlink.Remote<Host>;

    /** @internal */
    constructor(worker: Worker, host: Comlink.Remote<Host>, about: { adapter: string; profile: Profile }) {
        this.#worker = worker;
        this.#host = host;
        this.adapter = about.adapter;
        this.profile = about.profile;
    }

    /**
     * Compiles a model for this GPU and gives its weights their first values. What is compiled is kept in this browser's IndexedDB, for later visits.
     */
    async model(definition: Definition, options: TrainOptions = {}, onProgress?: Progress): Promise<Model> {
        onProgress?.("plan", "tracing and compiling");
        const told = async (done: number, of: number) => {
            if (of) onProgress?.("compile", `${done} of ${of} kernels`, done / of);
            if (done < of) return;
            const { about, reused } = await made;
            onProgress?.("ready", `${about.dispatches} kernel launches a step${reused ? ", planned before" : ""}`);
        };
        const made = this.#host.create(definition, options, onProgress && Comlink.proxy(told));
        const { id, about } = await made;
        const own = definition.model as { dtype?: "float32" | "uint8" | "int32"; loss?: string } | undefined;
        const inputs = own ? (own.dtype ?? "float32") : "uint8";
        return new Model(this.#host, id, about, { inputs, targets: own?.loss === "mse" ? "float32" : "int32" });
    }

    /**
     * Measures with which kernels steps of a model are fastest, one product after the other; leaving the loop stops. What is found
     * is kept in this browser's IndexedDB, for every model that is made from then on; with other kernels, last digits of results
     * differ.
     */
    async *tune(definition: Definition, options: TrainOptions = {}): AsyncGenerator<Tuned, void, undefined> {
        const products = await this.#host.products(definition, options);
        for (const [index, { product, candidates }] of products.entries()) {
            const found: { kernel: Kernel; ms: number }[] = [];
            let expected = Number.NaN;
            for (const kernel of candidates) {
                const { ms, loss } = await this.#host.time(definition, options, { [product]: kernel });
                if (!found.length) expected = loss;
                if (Math.abs(loss - expected) <= 1e-3 * Math.abs(expected) + 1e-6) found.push({ kernel, ms });
            }
            const [rule] = found;
            if (!rule) continue;
            const best = found.reduce((a, b) => (b.ms < a.ms ? b : a));
            // Less may be chance.
            const won = best.ms < 0.98 * rule.ms ? best : rule;
            await this.#host.keepChoice(product, won.kernel);
            yield { product, kernel: won.kernel, ms: won.ms, ruleMs: rule.ms, index: index + 1, count: products.length };
        }
    }

    /** What is known of this adapter's kernels, to be shipped with a page: `open({ choices })`. */
    async choices(): Promise<Choices> {
        return this.#host.choices();
    }

    /** Forgets what was measured, for models that are made from now on. */
    async forgetChoices(): Promise<void> {
        await this.#host.forgetChoices();
    }

    /** Forgets what was compiled for models of earlier visits. */
    async forgetPlans(): Promise<void> {
        await this.#host.forgetPlans();
    }

    /** Runs a standard workload: `W1-512` (products of such matrices), `W2` (perceptron), `W3` (convolutions) or `W4` (GPT). */
    workload(name: `W1-${number}` | "W2" | "W3" | "W4", steps: number): Promise<BenchResult> {
        return this.#host.workload(name, steps);
    }

    /** Removes a checkpoint, or weights by `weights/name`. */
    async forget(name: string): Promise<void> {
        await this.#host.removeFile(name);
    }

    /** Why the GPU is lost, if it is, and the bytes that the program has for itself. */
    async state(): Promise<{ lost: string | undefined; wasmBytes: number }> {
        return this.#host.state();
    }

    /** Ends the worker, and everything in it. */
    close(): void {
        this.#worker.terminate();
    }
}

const GUIDE = "It is in Chrome and Edge from 113, Safari from 26 and Firefox from 141 (Windows) and 145 (macOS).";

/** Opens the browser's fastest GPU. Throws a {@link NoDeviceError} that says what to do where there is none. */
export async function open(options: OpenOptions = {}): Promise<Device> {
    if (!globalThis.isSecureContext) {
        throw new NoDeviceError("insecure", "WebGPU needs a page that is served by https: or from localhost.");
    }
    if (!("gpu" in navigator)) {
        throw new NoDeviceError("unsupported", `This browser has no WebGPU. ${GUIDE}`);
    }
    const plans = Promise.all((options.plans ?? []).map(read));
    plans.catch(() => undefined); // Said below, when the device is open.
    options.onProgress?.("download", "loading the program");
    const worker = options.worker ?? new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "wgrad" });
    const host = Comlink.wrap<Host>(worker);
    const failed = new Promise<never>((_, reject) => {
        worker.addEventListener("error", (event) => reject(new Error(`the worker did not start: ${event.message ?? "not found"}`)), { once: true });
    });
    const opened = Promise.race([host.open(options.wasm?.toString(), options.choices), failed]).catch((error) => {
        const message = error instanceof Error ? error.message : String(error);
        if (!message.includes("adapter")) throw error;
        const flags = "On Linux, Chrome may want chrome://flags/#enable-unsafe-webgpu; elsewhere look whether hardware acceleration is switched on.";
        throw new NoDeviceError("adapter", `${message}. ${flags}`);
    });
    try {
        const about = await opened;
        await host.ship(await plans);
        return new Device(worker, host, about);
    } catch (error) {
        worker.terminate();
        throw error;
    }
}
