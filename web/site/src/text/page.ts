// A language model from the visitor's text: it learns, writes what it has learned, and its weights go to a file and come from one.
import { type Metrics, type Model, readSafetensors } from "wgrad";
import { Chart, smooth, thin } from "../chart.ts";
import { $, download, el, onFile } from "../dom.ts";
import { bytes, count, median } from "../format.ts";
import type { Gpu } from "../gpu.ts";
import { Runner, type State } from "../runner.ts";
import { forget, recall, remember } from "../store.ts";
import { alike, definition, makeSettings, read, type Settings, sized, write } from "./settings.ts";
import { Source } from "./source.ts";

/** Looks at the held-out part, and samples, in a training. */
const LOOKS = 16;
const SAMPLES_KEPT = 40;
/** Letters of a sample. */
const [SAMPLE, LONG] = [160, 500];

interface Sample {
    step: number;
    heldOut: number | undefined;
    prompt: string;
    text: string;
}

/** What is kept between visits, beside the model. */
interface Kept {
    text: Uint8Array;
    settings: Settings;
    losses: number[];
    heldOut: [step: number, loss: number][];
    samples: Sample[];
}

export class TextPage {
    readonly #gpu: Gpu;
    readonly #runner: Runner;
    readonly #source: Source;
    readonly #chart: Chart;
    /** Of the model that is there; none if there is no model. */
    #kept: Kept | undefined;
    #data: { text: Uint8Array } | undefined;
    #goal = 0;
    #times: number[] = [];
    #begun = false;
    #writing = false;
    #acting = false;

    constructor(gpu: Gpu) {
        this.#gpu = gpu;
        this.#runner = new Runner(gpu, {
            name: "text",
            every: 200,
            define: () => definition((this.#kept as Kept).settings),
            data: () => this.#data as { text: Uint8Array },
            ready: (model, steps) => this.#ready(model, steps),
            step: (metrics, model) => this.#step(metrics, model),
            compiling: (kernels) => this.#compiling(kernels),
            changed: (state, error) => this.#changed(state, error),
        });
        this.#chart = new Chart($("text-chart"), {
            label: "Loss by step", curves: [{ colour: "blue-soft", width: 1 }, { colour: "blue" }, { colour: "orange", dots: true }], format: (value) => value.toFixed(1),
        });
        makeSettings();
        this.#source = new Source(() => this.#sourceChanged());
        $("text-run").addEventListener("click", () => void this.#press());
        $("text-reset").addEventListener("click", () => void this.#reset());
        $("text-write").addEventListener("click", () => void this.#told(async () => this.#write(await this.#runner.prepare(), LONG)));
        $("text-download").addEventListener("click", () => void this.#told(async () => {
            download(await this.#gpu.held((await this.#runner.prepare()).weights()), "wgrad-text.safetensors");
        }));
        onFile($<HTMLInputElement>("text-weights"), (file) => void this.#guarded(() => this.#load(file)));
    }

    /** When the part is shown for the first time: what an earlier visit left, or the sample. */
    async begin(): Promise<void> {
        if (this.#begun) return;
        this.#begun = true;
        const kept = await recall<Kept>("text");
        if (kept) {
            this.#kept = kept;
            this.#source.set(kept.text);
            write(kept.settings);
            this.#goal = kept.settings.steps;
            this.#runner.steps = kept.losses.length;
            this.#showSamples();
            this.#figures(kept.losses.length);
        } else {
            await this.#source.sample();
        }
        this.#changed("idle");
    }

    #sourceChanged(): void {
        const prompt = $<HTMLInputElement>("text-prompt");
        const words = new TextDecoder().decode(this.#source.text.subarray(0, 400)).replace(/^(chapter|part) \w+\s+/i, "");
        prompt.value = words.trimStart().match(/^\S+(?:[ \t]+\S+){0,2}/)?.[0]?.slice(0, 40) ?? "";
        this.#changed(this.#runner.state);
    }

    /** Starts anew, stops, or goes on. */
    async #press(): Promise<void> {
        if (this.#runner.state !== "idle") return this.#runner.stop();
        await this.#guarded(async () => {
            const settings = read();
            const before = this.#kept;
            const goesOn = before !== undefined && alike({ ...before.settings, steps: 0 }, { ...settings, steps: 0 });
            if (!goesOn) await this.#anew(settings);
            else if (this.#runner.steps >= this.#goal) this.#goal += settings.steps;
            else this.#goal = Math.max(settings.steps, this.#runner.steps + 1);
            this.#takeText();
            void this.#runner.run(this.#goal);
        });
    }

    /** A model with no step behind it takes the place of the one before. */
    async #anew(settings: Settings): Promise<void> {
        await this.#runner.reset();
        this.#kept = { text: this.#source.text, settings, losses: [], heldOut: [], samples: [] };
        this.#goal = settings.steps;
        this.#showSamples();
        this.#figures(0);
    }

    #takeText(): void {
        const { text } = this.#source;
        if (this.#data?.text !== text) this.#data = { text };
        if (this.#kept) this.#kept.text = text;
        this.#keep();
    }

    async #reset(): Promise<void> {
        await this.#guarded(async () => {
            await this.#runner.reset();
            await forget("text");
            this.#kept = undefined;
            this.#showSamples();
            this.#figures(0);
            this.#changed("idle");
        });
    }

    async #load(file: File): Promise<void> {
        const { metadata } = await readSafetensors(file);
        const settings = sized(read(), metadata);
        await this.#anew(settings);
        write(settings);
        const model = await this.#runner.prepare();
        try {
            await this.#gpu.held(model.load(file));
        } catch (error) {
            await this.#reset();
            throw error;
        }
        this.#takeText();
        this.#changed("idle");
        $("text-status").textContent = `${file.name} is loaded: ${count(model.about.parameters)} weights. It goes on learning from your text.`;
        void this.#told(() => this.#write(model, SAMPLE));
    }

    /** Does something, and says what went wrong. */
    async #told(work: () => Promise<void>): Promise<void> {
        try {
            await work();
        } catch (error) {
            await this.#runner.failed(error, () => {});
        }
    }

    /** The same for what takes one model's place with another: one at a time. */
    async #guarded(work: () => Promise<void>): Promise<void> {
        if (this.#acting) return;
        this.#acting = true;
        await this.#told(work).finally(() => (this.#acting = false));
    }

    #keep(): void {
        if (this.#kept) void remember("text", this.#kept);
    }

    #ready(model: Model, steps: number): void {
        const kept = this.#kept as Kept;
        kept.losses.length = Math.min(kept.losses.length, steps);
        kept.heldOut = kept.heldOut.filter(([step]) => step <= steps);
        kept.samples = kept.samples.filter(({ step }) => step <= steps);
        this.#times = [];
        $("text-memory").textContent = bytes(model.about.memoryBytes);
        this.#showSamples();
        this.#figures(steps);
    }

    async #step(metrics: Metrics, model: Model): Promise<void> {
        const { step, loss, ms } = metrics;
        (this.#kept as Kept).losses[step - 1] = loss;
        this.#times = [...this.#times.slice(-30), ms];
        const every = Math.max(5, Math.round(this.#goal / LOOKS));
        if (step === 1 || step % every === 0 || step === this.#goal) await this.#look(model, step);
        this.#figures(step);
        if (step % 200 === 0) this.#keep();
    }

    async #look(model: Model, step: number): Promise<void> {
        const heldOut = await model.evaluateText(4);
        const kept = this.#kept as Kept;
        kept.heldOut = [...kept.heldOut.filter(([before]) => before < step), [step, heldOut]];
        await this.#write(model, SAMPLE, heldOut);
    }

    /** Has the model write, after the prompt. */
    async #write(model: Model, letters: number, heldOut?: number): Promise<void> {
        if (this.#writing) return;
        this.#writing = true;
        try {
            const prompt = $<HTMLInputElement>("text-prompt").value || "\n";
            const temperature = $<HTMLInputElement>("text-temperature").valueAsNumber;
            const seed = Math.floor(Math.random() * 2 ** 31);
            const text = await this.#gpu.held(model.generate(prompt, { count: letters, temperature, seed }));
            const kept = this.#kept as Kept;
            kept.samples = [{ step: this.#runner.steps, heldOut, prompt, text }, ...kept.samples].slice(0, SAMPLES_KEPT);
            this.#showSamples();
        } finally {
            this.#writing = false;
        }
    }

    #showSamples(): void {
        const samples = this.#kept?.samples ?? [];
        const empty = el("li", { className: "empty" }, "Samples appear here while it learns: first noise, then words, then something like sentences.");
        // Bytes that are no letters would be drawn as boxes, and many empty lines as a hole.
        const clean = (text: string) => text.replace(/\n{3,}/g, "\n\n").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\ufffd]/g, "·");
        $("samples").replaceChildren(...(samples.length ? samples.map(({ step, heldOut, prompt, text }) => el("li", {},
            el("h3", {}, `step ${count(step)}${heldOut === undefined ? "" : `, loss ${heldOut.toFixed(2)}`}`),
            el("p", {}, el("b", {}, prompt.trimStart()), clean(text)),
        )) : [empty]));
    }

    #figures(step: number): void {
        const { losses, heldOut, settings } = this.#kept ?? { losses: [], heldOut: [], settings: undefined };
        const usual = median(this.#times);
        $("text-step").textContent = count(step);
        $("text-loss").textContent = losses.length ? (smooth(losses).at(-1) as number).toFixed(3) : "–";
        $("text-rate").textContent = settings && usual > 0 ? count((1000 * settings.batch * settings.context) / usual) : "–";
        if (!this.#kept) $("text-memory").textContent = "–";
        const found = new Map(heldOut);
        const steps = [...new Set([...thin(losses.map((_, index) => index + 1)), ...found.keys()])].sort((a, b) => a - b);
        const mean = smooth(losses, 0.95);
        const at = (values: readonly number[]) => steps.map((step) => values[step - 1] ?? null);
        this.#chart.set([steps, at(losses), at(mean), steps.map((step) => found.get(step) ?? null)], `After ${step} steps ${$("text-loss").textContent}.`);
    }

    #compiling(kernels: string): void {
        $("text-status").textContent = `Compiling the model for your GPU: ${kernels} …`;
    }

    #changed(state: State, error?: string): void {
        const [button, status] = [$<HTMLButtonElement>("text-run"), $("text-status")];
        const busy = state !== "idle";
        const done = this.#runner.steps;
        button.textContent = busy ? "Stop" : !this.#kept ? "Start learning" : done >= this.#goal ? "Learn more" : done ? `Go on after step ${count(done)}` : "Start learning";
        button.disabled = !busy && !this.#source.text.length;
        for (const id of ["text-download", "text-write"]) $<HTMLButtonElement>(id).disabled = !this.#kept;
        $<HTMLButtonElement>("text-reset").disabled = !this.#kept;
        status.classList.toggle("busy", busy);
        status.textContent = error ?? {
            preparing: "Compiling the model for your GPU …",
            training: `Learning, until step ${count(this.#goal)}.`,
            stopping: "Stopping, and saving where it is …",
            idle: !this.#kept ? "" : done >= this.#goal ? "It has read enough. Let it write, or have it learn more." : done ? "Stopped. It goes on where it was, even after you close the page." : "",
        }[state];
        if (!busy) this.#keep();
    }
}
