// Your GPU: what it is, how fast it trains, and what a step of the running model does with it.
import { $, el } from "../dom.ts";
import type { Gpu } from "../gpu.ts";
import { Bench } from "./bench.ts";
import { showAdapter } from "./facts.ts";
import { showPlan } from "./plan.ts";

const NAMES: Record<string, string> = { digits: "Digits", text: "Your text" };

export class GpuPage {
    readonly #gpu: Gpu;
    readonly #bench: Bench;
    #chosen: string | undefined;

    constructor(gpu: Gpu) {
        this.#gpu = gpu;
        this.#bench = new Bench(gpu);
    }

    /** Each time that the part is shown. */
    async begin(): Promise<void> {
        this.#bench.ready(await showAdapter(await this.#gpu.device()));
        this.#plans();
    }

    #plans(): void {
        const names = [...this.#gpu.models.keys()];
        this.#chosen = names.includes(this.#chosen ?? "") ? this.#chosen : names[0];
        const about = this.#gpu.models.get(this.#chosen ?? "");
        if (about) showPlan(about);
        const choose = (name: string) => () => {
            this.#chosen = name;
            this.#plans();
        };
        $("plan-choice").replaceChildren(...(names.length < 2 ? [] : names.map((name) => {
            const button = el("button", { type: "button", onclick: choose(name) }, NAMES[name] ?? name);
            button.setAttribute("aria-pressed", String(name === this.#chosen));
            return button;
        })));
    }
}
