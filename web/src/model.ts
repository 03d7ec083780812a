// A model in training. It lives in the worker; this is the page's side of it.
import type * as Comlink from "comlink";
import type {
    About, FitOptions, GenerateOptions, Metrics, Numbers, TestResult, TrainingData, WeightSource,
} from "./types.ts";
import { blob, read } from "./sources.ts";
import type { Host } from "./worker.ts";

/** A copy of numbers as the bytes that the model's input has. */
function bytes(numbers: Numbers, kind: "float32" | "uint8" | "int32"): Uint8Array {
    const array = { float32: Float32Array, uint8: Uint8Array, int32: Int32Array }[kind].from(numbers as ArrayLike<number>);
    return new Uint8Array(array.buffer);
}

function aborted(signal: AbortSignal): unknown {
    return signal.reason ?? new DOMException("the training was aborted", "AbortError");
}

/** What a promise gives, or the signal's reason as soon as it is aborted. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    if (!signal) return work;
    return new Promise((resolve, reject) => {
        const stop = () => reject(aborted(signal));
        if (signal.aborted) return stop();
        signal.addEventListener("abort", stop, { once: true });
        work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
    });
}

/** What the inputs and targets of a model are. */
export interface Kinds {
    inputs: "float32" | "uint8" | "int32";
    targets: "float32" | "int32";
}

export class Model {
    readonly about: About;
    readonly #host: Comlink.Remote<Host>;
    readonly #id: number;
    readonly #kinds: Kinds;
    #fitting = false;
    #rest: Promise<unknown> = Promise.resolve();
    #data: TrainingData | undefined;

    /** @internal */
    constructor(host: Comlink.Remote<Host>, id: number, about: About, kinds: Kinds) {
        this.#host = host;
        this.#id = id;
        this.about = about;
        this.#kinds = kinds;
    }

    /**
     * Trains, and gives the metrics of each step. The next step is under way while the loop's body runs, and no more than
     * that: leaving the loop, or aborting the signal, stops the training. Another `fit` goes on from there.
     */
    async *fit(data: TrainingData, options: FitOptions = {}): AsyncGenerator<Metrics, void, undefined> {
        const { signal, checkpoint, steps = this.about.steps } = options;
        signal?.throwIfAborted();
        if (this.#fitting) throw new Error("the model is being trained already");
        this.#fitting = true;
        try {
            await unlessAborted(this.#feed(data), signal);
            const keep = checkpoint && { name: checkpoint.name, every: Math.max(1, checkpoint.every ?? 100) };
            await unlessAborted(this.#host.keep(this.#id, keep), signal);
            for (;;) {
                const metrics = await unlessAborted(this.#host.step(this.#id, steps), signal);
                if (!metrics) return;
                yield metrics;
                if (signal?.aborted) throw aborted(signal);
            }
        } finally {
            // Nobody waits for it: an abort is not to take as long as a step.
            this.#rest = this.#host.pause(this.#id, checkpoint !== undefined).catch(() => undefined);
            this.#fitting = false;
            if (!signal?.aborted) await this.#rest;
        }
    }

    /** Waits until an aborted training has made the steps that were under way, and its checkpoint is written. */
    async settled(): Promise<void> {
        await this.#rest;
    }

    async #feed(data: TrainingData): Promise<void> {
        if (this.#data === data) return;
        if ("text" in data) {
            const text = typeof data.text === "string" ? new TextEncoder().encode(data.text) : data.text;
            await this.#host.setText(this.#id, text, data.validation ?? 0.1);
        } else {
            const { inputs, targets } = this.#kinds;
            await this.#host.setArrays(this.#id, bytes(data.inputs, inputs), bytes(data.targets, targets));
        }
        this.#data = data;
    }

    /** For each row of inputs: the probabilities of the classes, or the predicted numbers. */
    async predict(inputs: Numbers): Promise<Float32Array[]> {
        const flat = await this.#host.predict(this.#id, bytes(inputs, this.#kinds.inputs));
        const width = this.about.outputs;
        return Array.from({ length: flat.length / width }, (_, row) => flat.subarray(row * width, (row + 1) * width));
    }

    /** How well rows are predicted that need not have been trained on. */
    evaluate(inputs: Numbers, targets: Numbers): Promise<TestResult> {
        return this.#host.evaluate(this.#id, bytes(inputs, this.#kinds.inputs), bytes(targets, this.#kinds.targets));
    }

    /** The mean loss, in nats a byte, over the part of the text that is held out. */
    evaluateText(batches = 4): Promise<number> {
        return this.#host.evaluateText(this.#id, batches);
    }

    /** Tells the schedule `plateau` the loss of a test, as often as there is one; whether the learning rate went down. */
    observe(loss: number): Promise<boolean> {
        return this.#host.observe(this.#id, loss);
    }

    /** Continues a text. */
    async generate(prompt: string, options: GenerateOptions = {}): Promise<string> {
        const text = await this.#host.generate(this.#id, new TextEncoder().encode(prompt), options);
        return new TextDecoder().decode(text);
    }

    /** The weights as a safetensors file. */
    async weights(): Promise<Blob> {
        return blob(await this.#host.weights(this.#id));
    }

    /** Keeps the weights in the browser's private files; `load("opfs:name")` takes them back. */
    async save(name: string): Promise<void> {
        await this.#host.saveFile(`weights/${name}`, await this.#host.weights(this.#id));
    }

    /** Takes weights; what does not fit is an error, and changes nothing. */
    async load(source: WeightSource): Promise<void> {
        await this.#host.load(this.#id, await this.#read(source));
    }

    async #read(source: WeightSource): Promise<Uint8Array> {
        if (typeof source !== "string" || !source.startsWith("opfs:")) return read(source);
        const found = await this.#host.loadFile(`weights/${source.slice(5)}`);
        if (!found) throw new Error(`nothing was saved as "${source.slice(5)}"`);
        return found;
    }

    /**
     * What was compiled, to be shipped with a page: `open({ plans: [url] })` spares visitors with the same kind of GPU the compiling, which the model's sizes,
     * training options and chosen kernels decide. Of this version of the package.
     */
    async plan(): Promise<Blob> {
        return blob(await this.#host.plan(this.#id));
    }

    /** Goes on with a checkpoint of `fit`, bit for bit; gives its steps, or nothing if there is none of that name. */
    resume(name: string): Promise<number | undefined> {
        return this.#host.resume(this.#id, name);
    }

    /** Frees the model's memory, on the GPU too. */
    async dispose(): Promise<void> {
        await this.#host.dispose(this.#id);
    }
}
