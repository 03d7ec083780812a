// Draw and learn: a small ConvNet learns digits from its first moment on the page, reads what is drawn, and learns that too.
import { digitsNet, type Metrics, type Model } from "wgrad";
import { Chart, smooth, thin } from "../chart.ts";
import { $, el, onTheme } from "../dom.ts";
import { count, message, milliseconds, percent } from "../format.ts";
import type { Gpu } from "../gpu.ts";
import { Runner, type State } from "../runner.ts";
import { forget, recall, remember } from "../store.ts";
import { type Images, loadDigits, type Own, withOwn } from "./data.ts";
import { makePad, paint, type Pad } from "./pad.ts";
import { makeBars, paintFilters, showBars, showConfusion, showFilters } from "./pictures.ts";

/** Steps of a training: at first, when one goes on, and for a drawing of one's own. */
const [FIRST, MORE, FOR_ONE] = [600, 300, 150];
/** Steps between looks at the test digits. */
const LOOK = 25;

/** What is kept between visits, beside the model. */
interface Kept {
    losses: number[];
    accuracies: number[];
    tests: [step: number, accuracy: number][];
    own: Own[];
    seed: number;
}

const nothing = (): Kept => ({ losses: [], accuracies: [], tests: [], own: [], seed: 0 });

export class DigitsPage {
    readonly #gpu: Gpu;
    readonly #runner: Runner;
    readonly #pad: Pad;
    readonly #lossChart: Chart;
    readonly #accuracyChart: Chart;
    #images: { training: Images; test: Images } | undefined;
    #data: Images | undefined;
    #kept = nothing();
    #goal = FIRST;
    #begun = false;
    #reading = false;
    #readAgain = false;
    #times: number[] = [];

    constructor(gpu: Gpu) {
        this.#gpu = gpu;
        this.#runner = new Runner(gpu, {
            name: "digits",
            every: 100,
            define: () => [digitsNet(), { schedule: "constant", lr: 3e-3, steps: FIRST, seed: this.#kept.seed }],
            data: () => this.#data as Images,
            ready: (model, steps) => this.#ready(model, steps),
            step: (metrics, model) => this.#step(metrics, model),
            compiling: (kernels) => this.#compiling(kernels),
            changed: (state, error) => this.#changed(state, error),
        });
        const whole = (value: number) => `${Math.round(100 * value)}%`;
        this.#lossChart = new Chart($("digits-loss-chart"), { label: "Loss by step", curves: [{ colour: "blue-soft", width: 1 }, { colour: "blue" }], format: (value) => value.toFixed(1) });
        this.#accuracyChart = new Chart($("digits-accuracy-chart"), { label: "Part of the digits read right, by step", range: [0, 1.02], curves: [{ colour: "blue" }, { colour: "orange", dots: true }], format: whole });
        this.#pad = makePad(() => this.#drawn());
        makeBars();
        showBars(undefined);
        onTheme(() => {
            paintFilters();
            this.#showOwn();
            paint($<HTMLCanvasElement>("seen"), this.#pad.pixels());
        });
        this.#buttons();
    }

    /** Begins to learn, once; where something was learned before, it is shown. */
    async begin(): Promise<void> {
        if (this.#begun) return;
        this.#begun = true;
        const [images, kept] = await Promise.all([loadDigits(), recall<Kept>("digits")]);
        this.#images = images;
        this.#kept = { ...nothing(), ...kept };
        this.#feed();
        this.#allow(true);
        const before = this.#kept.losses.length;
        this.#goal = before >= FIRST ? before : FIRST;
        await this.#runner.run(this.#goal);
    }

    #buttons(): void {
        $("digits-run").addEventListener("click", () => {
            if (this.#runner.state !== "idle") return void this.#runner.stop();
            if (this.#runner.steps >= this.#goal) this.#goal = this.#runner.steps + MORE;
            void this.#runner.run(this.#goal);
        });
        $("digits-reset").addEventListener("click", () => void this.#reset());
        $("pad-clear").addEventListener("click", () => this.#pad.clear());
        $("teach").append(...Array.from({ length: 10 }, (_, digit) => el("button", {
            type: "button", ariaLabel: `This is a ${digit}`, onclick: () => this.#teach(digit),
        }, String(digit))));
    }

    #allow(allowed: boolean): void {
        for (const id of ["digits-run", "digits-reset"]) $<HTMLButtonElement>(id).disabled = !allowed;
    }

    async #reset(): Promise<void> {
        this.#allow(false);
        try {
            await this.#runner.reset();
            await forget("digits");
            this.#kept = { ...nothing(), own: this.#kept.own, seed: this.#kept.seed + 1 };
            this.#figures(0);
        } catch (error) {
            return this.#changed("idle", message(error));
        } finally {
            this.#allow(true);
        }
        this.#goal = FIRST;
        this.#feed();
        await this.#runner.run(this.#goal);
    }

    #feed(): void {
        if (this.#images) this.#data = withOwn(this.#images.training, this.#kept.own);
        this.#showOwn();
    }

    #keep(): void {
        void remember("digits", this.#kept);
    }

    async #ready(model: Model, steps: number): Promise<void> {
        const kept = this.#kept;
        kept.losses.length = Math.min(kept.losses.length, steps);
        kept.accuracies.length = kept.losses.length;
        kept.tests = kept.tests.filter(([step]) => step <= steps);
        this.#times = [];
        await this.#figures(steps);
        // Of a new network there is little to see, and it is in haste.
        if (steps) await this.#look(model, steps);
    }

    async #step(metrics: Metrics, model: Model): Promise<void> {
        if (!performance.getEntriesByName("first-step").length) performance.mark("first-step");
        const { step, loss, accuracy = 0, ms } = metrics;
        this.#kept.losses[step - 1] = loss;
        this.#kept.accuracies[step - 1] = accuracy;
        this.#times = [...this.#times.slice(-30), ms];
        if (step === 1 || step % LOOK === 0) await this.#look(model, step);
        this.#figures(step);
        if (step % 100 === 0) this.#keep();
    }

    /** Looks at the test digits, the filters, and what is drawn. */
    async #look(model: Model, step: number): Promise<void> {
        const { inputs, targets } = (this.#images as { test: Images }).test;
        const { accuracy = 0, confusion } = await model.evaluate(inputs, targets);
        this.#kept.tests = [...this.#kept.tests.filter(([before]) => before < step), [step, accuracy]];
        $("digits-accuracy").textContent = percent(accuracy);
        if (confusion) showConfusion(confusion);
        await showFilters(model);
        void this.#read();
    }

    #figures(step: number): void {
        const { losses, accuracies, tests } = this.#kept;
        const usual = [...this.#times].sort((a, b) => a - b)[this.#times.length >> 1];
        $("digits-step").textContent = count(step);
        $("digits-loss").textContent = losses.length ? (smooth(losses).at(-1) as number).toFixed(3) : "–";
        $("digits-time").textContent = usual === undefined ? "–" : milliseconds(usual);
        const steps = thin(losses.map((_, index) => index + 1));
        const at = (values: readonly number[]) => steps.map((step) => values[step - 1] ?? null);
        this.#lossChart.set([steps, at(losses), at(smooth(losses, 0.95))], `After ${step} steps ${$("digits-loss").textContent}.`);
        const found = new Map(tests);
        const all = [...new Set([...steps, ...found.keys()])].sort((a, b) => a - b);
        const mean = smooth(accuracies, 0.95);
        const values = [all.map((step) => mean[step - 1] ?? null), all.map((step) => found.get(step) ?? null)];
        this.#accuracyChart.set([all, ...values], `After ${step} steps ${$("digits-accuracy").textContent} of the test digits.`);
    }

    #changed(state: State, error?: string): void {
        const [button, status] = [$<HTMLButtonElement>("digits-run"), $("digits-status")];
        const busy = state !== "idle";
        const done = this.#runner.steps;
        button.textContent = busy ? "Stop" : done >= this.#goal ? "Learn more" : done ? "Go on" : "Start";
        status.classList.toggle("busy", busy);
        status.textContent = error ?? {
            preparing: "Compiling the network for your GPU …",
            training: "Learning. Draw a digit while it does.",
            stopping: "Stopping, and saving where it is …",
            idle: done >= this.#goal ? "It has learned enough for now. Draw a digit." : done ? "Stopped. It goes on where it was, even after you close the page." : "Ready.",
        }[state];
        if (!busy && done) this.#keep();
    }

    #compiling(kernels: string): void {
        $("digits-status").textContent = `Compiling the network for your GPU: ${kernels} …`;
    }

    #drawn(): void {
        $("pad-empty").hidden = !this.#pad.empty;
        paint($<HTMLCanvasElement>("seen"), this.#pad.pixels());
        void this.#read();
    }

    /** Shows what the network makes of the drawing; one question at a time. */
    async #read(): Promise<void> {
        if (this.#pad.empty) return showBars(undefined);
        this.#readAgain = this.#reading;
        const { model } = this.#runner;
        if (this.#reading || !model) return;
        this.#reading = true;
        try {
            const [probabilities] = await this.#gpu.held(model.predict(this.#pad.pixels()));
            if (!this.#pad.empty) showBars(probabilities);
        } catch (error) {
            if (this.#runner.state === "idle") await this.#runner.failed(error, () => void this.#read());
        } finally {
            this.#reading = false;
        }
        if (this.#readAgain) void this.#read();
    }

    #teach(label: number): void {
        if (this.#pad.empty || !this.#images) {
            $("reading").textContent = "Draw a digit first";
            return;
        }
        this.#kept.own.push({ pixels: [...this.#pad.pixels()], label });
        this.#learnOwn();
        this.#pad.clear();
    }

    /** Goes on with the drawings as they are now. */
    #learnOwn(): void {
        this.#feed();
        this.#keep();
        this.#goal = Math.max(this.#goal, this.#runner.steps + FOR_ONE);
        void this.#runner.run(this.#goal);
    }

    #showOwn(): void {
        const { own } = this.#kept;
        $("own").hidden = !own.length;
        $("own-list").replaceChildren(...own.map(({ pixels, label }, index) => {
            const picture = el("canvas", { width: 8, height: 8 });
            paint(picture, pixels);
            const take = () => {
                own.splice(index, 1);
                this.#learnOwn();
            };
            return el("li", {}, el("button", { type: "button", title: "Take it out", ariaLabel: `Your ${label}: take it out`, onclick: take }, picture, String(label)));
        }));
    }
}
