// A model in training that outlives its device: it is made when it is wanted, goes on where its checkpoint is, stops at once,
// and is made again when the GPU was lost.
import type { Definition, Metrics, Model, TrainingData, TrainOptions } from "wgrad";
import { message } from "./format.ts";
import type { Gpu } from "./gpu.ts";
import { dismiss, notice } from "./notice.ts";

export type State = "idle" | "preparing" | "training" | "stopping";

export interface Work {
    /** Of the part of the page, and of the checkpoint. */
    name: string;
    /** Steps between checkpoints. */
    every: number;
    define(): [Definition, TrainOptions];
    data(): TrainingData;
    /** A model was made and has so many steps behind it; what was drawn of later ones is forgotten. */
    ready(model: Model, steps: number): Promise<void> | void;
    step(metrics: Metrics, model: Model): Promise<void> | void;
    /** So many of the model's kernels are compiled. */
    compiling(kernels: string): void;
    /** `error` says why it stopped, if it was not asked to. */
    changed(state: State, error?: string): void;
}

/** Losses of the GPU without a step between them after which it is left to the user. */
const MOST_LOSSES = 2;

export class Runner {
    state: State = "idle";
    steps = 0;
    readonly #gpu: Gpu;
    readonly #work: Work;
    #model: Model | undefined;
    #generation = -1;
    #control: AbortController | undefined;
    #ended: Promise<void> = Promise.resolve();
    #losses = 0;

    constructor(gpu: Gpu, work: Work) {
        this.#gpu = gpu;
        this.#work = work;
    }

    /** The model, if there is one on the present device. */
    get model(): Model | undefined {
        return this.#generation === this.#gpu.generation ? this.#model : undefined;
    }

    /** The model; made, and resumed from its checkpoint, if there is none. */
    async prepare(): Promise<Model> {
        if (this.model) return this.model;
        const [device, generation] = [await this.#gpu.device(), this.#gpu.generation];
        const { name } = this.#work;
        const model = await device.model(...this.#work.define(), (stage, text) => {
            if (stage === "compile") this.#work.compiling(text);
            if (stage === "ready") this.#work.changed(this.state);
        });
        const saved = await model.resume(name).catch((error) => {
            notice(name, "info", `What was learned before cannot be gone on with, and learning begins anew: ${message(error)}.`);
            return undefined;
        });
        const steps = saved ?? 0;
        [this.#model, this.#generation, this.steps] = [model, generation, steps];
        this.#gpu.models.set(name, model.about);
        await this.#work.ready(model, steps);
        return model;
    }

    /** Trains until so many steps are made; waits for the end of a training under way first. */
    run(until: number): Promise<void> {
        this.#ended = this.stop().then(() => this.#train(until));
        return this.#ended;
    }

    async #train(until: number): Promise<void> {
        const control = new AbortController();
        this.#control = control;
        this.#change("preparing");
        try {
            const model = await this.prepare();
            this.#change("training");
            const { name, every } = this.#work;
            const all = async () => {
                for await (const metrics of model.fit(this.#work.data(), { steps: until, signal: control.signal, checkpoint: { name, every } })) {
                    this.steps = metrics.step;
                    this.#losses = 0;
                    await this.#work.step(metrics, model);
                }
            };
            await this.#gpu.held(all());
            this.#change("idle");
        } catch (error) {
            if (control.signal.aborted) {
                this.#change("stopping");
                await this.#gpu.held(this.#model?.settled() ?? Promise.resolve()).catch(() => undefined);
                return this.#change("idle");
            }
            this.state = "idle";
            await this.failed(error, () => void this.run(until));
        }
    }

    #change(state: State, error?: string): void {
        this.state = state;
        this.#work.changed(state, error);
    }

    /** What to do about an error: a lost GPU is opened again, and `again` is tried once more. */
    async failed(error: unknown, again: () => void): Promise<void> {
        const replaced = this.#model !== undefined && this.#generation !== this.#gpu.generation;
        const lost = replaced ? "another part of this page noticed" : await this.#gpu.lost().catch(() => undefined);
        if (lost === undefined) return this.#change(this.state, message(error));
        const { name } = this.#work;
        this.#losses += 1;
        this.#change("idle", "The GPU was lost.");
        const goOn = async () => {
            try {
                // Another part of the page may have opened it already.
                if (await this.#gpu.lost()) await this.#gpu.reopen();
                await this.prepare();
            } catch (error) {
                return notice(name, "error", `The GPU was lost, and cannot be had again: ${message(error)}`, { "Try again": () => void goOn() });
            }
            notice(name, "info", `The GPU was lost (${lost}). It is back, and the model ${this.steps ? `goes on after step ${this.steps}, where it was saved last` : "begins anew: it was not saved yet"}.`);
            again();
        };
        if (this.#losses <= MOST_LOSSES) return void (await goOn());
        notice(name, "error", `The GPU was lost again (${lost}). The model is saved.`, { "Go on": () => { this.#losses = 0; void goOn(); } });
    }

    /** Stops at once; steps under way are saved. */
    async stop(): Promise<void> {
        this.#control?.abort();
        await this.#ended.catch(() => undefined);
    }

    /** Forgets the model and its checkpoint. */
    async reset(): Promise<void> {
        await this.stop();
        dismiss(this.#work.name);
        await this.model?.dispose();
        [this.#model, this.steps] = [undefined, 0];
        this.#gpu.models.delete(this.#work.name);
        await (await this.#gpu.device()).forget(this.#work.name);
    }
}
