// The benchmark of about a minute: four workloads, a table, a file to share and to compare with.
import type { Device } from "wgrad";
import { $, download, el, onFile } from "../dom.ts";
import { median, message, milliseconds } from "../format.ts";
import type { Gpu } from "../gpu.ts";
import { browser, type Name, parse, REFERENCE, type Report, speed, WORKLOADS } from "./results.ts";

/** Steps to find out how long one takes, and milliseconds and steps that a workload then gets. */
const [TRIAL, BUDGET, MOST] = [3, 11_000, 200];

export class Bench {
    readonly #gpu: Gpu;
    #own: Report | undefined;
    #other: Report | undefined;
    #running = false;

    constructor(gpu: Gpu) {
        this.#gpu = gpu;
        $("bench-run").addEventListener("click", () => void this.#run());
        $("bench-copy").addEventListener("click", () => void this.#copy());
        $("bench-download").addEventListener("click", () => download(new Blob([this.#json()], { type: "application/json" }), "wgrad-bench.json"));
        onFile($<HTMLInputElement>("bench-file"), (file) => void this.#compare(file));
        this.#show();
    }

    /** There is a device, of this name. */
    ready(adapter: string): void {
        this.#own = { kind: "wgrad-web-bench", version: 1, adapter, browser: browser(), date: "", results: {} };
        $<HTMLButtonElement>("bench-run").disabled = this.#running;
    }

    async #run(): Promise<void> {
        const own = this.#own;
        if (!own || this.#running) return;
        this.#running = true;
        const [button, status] = [$<HTMLButtonElement>("bench-run"), $("bench-status")];
        button.disabled = true;
        status.classList.add("busy");
        [own.results, own.date] = [{}, new Date().toISOString()];
        try {
            const device = await this.#gpu.device();
            for (const [index, { name, about }] of WORKLOADS.entries()) {
                status.textContent = `${index + 1} of ${WORKLOADS.length}: ${name}, ${about} …`;
                own.results[name] = await this.#gpu.held(measure(device, name));
                this.#show();
            }
            status.textContent = "Measured. Compare with a friend: send the JSON, and open theirs here.";
            for (const id of ["bench-copy", "bench-download"]) $<HTMLButtonElement>(id).disabled = false;
        } catch (error) {
            status.textContent = `The measurement ended: ${message(error)}`;
        } finally {
            this.#running = false;
            button.disabled = false;
            status.classList.remove("busy");
        }
    }

    #json(): string {
        return `${JSON.stringify(this.#own, null, 2)}\n`;
    }

    async #copy(): Promise<void> {
        try {
            await navigator.clipboard.writeText(this.#json());
            $("bench-note").textContent = "Copied.";
        } catch (error) {
            $("bench-note").textContent = `The browser does not let this page copy (${message(error)}); download it instead.`;
        }
    }

    async #compare(file: File): Promise<void> {
        try {
            this.#other = parse(await file.text());
            $("bench-note").textContent = `Compared with ${this.#other.adapter}, ${this.#other.browser}.`;
        } catch (error) {
            $("bench-note").textContent = `${file.name}: ${message(error)}`;
        }
        this.#show();
    }

    #show(): void {
        const other = this.#other;
        const column = (text: string, className = "") => el("th", { scope: "col", className }, text);
        const theirName = other ? [column(other.adapter || "The other")] : [];
        const head = el("tr", {}, column("Workload"), column("Here"), column("Work a second", "rate"), ...theirName, column(REFERENCE.label));
        const rows = WORKLOADS.map(({ name, about }) => {
            const here = this.#own?.results[name]?.median_ms;
            const theirs = other?.results[name]?.median_ms;
            const reference = REFERENCE.results[name];
            const beside = (ms: number | undefined) => el("td", {}, ms ? milliseconds(ms) : "–", ...(ms && here ? [el("small", {}, ratio(ms / here))] : []));
            return el("tr", {},
                el("th", { scope: "row" }, name, el("small", {}, about)),
                el("td", { className: "own" }, here ? milliseconds(here) : "–"),
                el("td", { className: "rate" }, here ? speed(name, here) : "–"),
                ...(other ? [beside(theirs)] : []),
                beside(reference),
            );
        });
        $("bench-table").replaceChildren(el("thead", {}, head), el("tbody", {}, ...rows));
    }
}

const ratio = (times: number): string => `${times.toFixed(times < 10 ? 1 : 0)} × as long`;

async function measure(device: Device, name: Name): Promise<Report["results"][Name]> {
    const trial = await device.workload(name, TRIAL);
    // A step of W1 is several products.
    const step = median(trial.times) * (name.startsWith("W1") ? 8 : 1);
    const steps = Math.min(MOST, Math.max(4, Math.round(BUDGET / step)));
    const { times } = await device.workload(name, steps);
    const round = (ms: number) => Math.round(ms * 1000) / 1000;
    return { median_ms: round(median(times)), min_ms: round(Math.min(...times)), first_ms: round(trial.first), steps: times.length };
}
