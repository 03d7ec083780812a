// Pictures of what the network has learned: its first filters, what it takes for what, how sure it is.
import { type Model, readSafetensors, values } from "wgrad";
import { $, colour, el } from "../dom.ts";
import { percent } from "../format.ts";

const KERNEL = 9;
let filters: Float32Array = new Float32Array();

/** Reads the filters of the first layer, and shows them. */
export async function showFilters(model: Model): Promise<void> {
    const tensor = (await readSafetensors(await model.weights())).tensors.get("conv1.weight");
    if (tensor) filters = values(tensor);
    paintFilters();
}

/** Of nothing if there are none yet. */
export function paintFilters(): void {
    const holder = $("filters");
    const number = filters.length / KERNEL;
    while (holder.childElementCount < number) holder.append(el("canvas", { width: 3, height: 3 }));
    const most = Math.max(1e-6, ...filters.map(Math.abs));
    const [wanted, unwanted] = [colour("orange"), colour("blue")];
    [...holder.children].forEach((canvas, filter) => {
        const pen = (canvas as HTMLCanvasElement).getContext("2d");
        if (!pen) return;
        pen.clearRect(0, 0, 3, 3);
        for (let place = 0; place < KERNEL; place++) {
            const weight = (filters[filter * KERNEL + place] ?? 0) / most;
            pen.globalAlpha = Math.abs(weight);
            pen.fillStyle = weight > 0 ? wanted : unwanted;
            pen.fillRect(place % 3, Math.floor(place / 3), 1, 1);
        }
    });
}

/** A table of what was written and what was read. */
export function showConfusion(cells: readonly (readonly number[])[]): void {
    const most = Math.max(1, ...cells.flat());
    const digits = cells.map((_, digit) => el("th", { scope: "col" }, String(digit)));
    const row = (counts: readonly number[], written: number) =>
        el("tr", {}, el("th", { scope: "row" }, String(written)), ...counts.map((count, read) => {
            const cell = el("td", { className: count ? "" : "zero", title: `${count} times a ${written} was read as ${read}` }, String(count));
            const share = Math.round(100 * (count / most) ** 0.6 * (written === read ? 0.9 : 1));
            if (count) cell.style.background = `color-mix(in srgb, var(--${written === read ? "blue" : "orange"}) ${Math.max(12, share)}%, var(--well))`;
            if (share > 74 && written === read) cell.style.color = "var(--on-primary)";
            return cell;
        }));
    const caption = "Rows are the digits that were written, columns what they were read as.";
    const table = el("table", {}, el("thead", {}, el("tr", {}, el("td", { ariaHidden: "true" }), ...digits)), el("tbody", {}, ...cells.map(row)));
    table.setAttribute("aria-label", caption);
    $("confusion").replaceChildren(table);
}

let bars: { row: HTMLElement; fill: HTMLElement; text: HTMLElement }[] = [];

/** The ten bars, still empty. */
export function makeBars(): void {
    bars = Array.from({ length: 10 }, (_, digit) => {
        const [fill, text] = [el("div", { className: "fill" }), el("span", {}, "")];
        return { fill, text, row: el("li", {}, el("span", {}, String(digit)), el("div", { className: "track", ariaHidden: "true" }, fill), text) };
    });
    $("bars").replaceChildren(...bars.map(({ row }) => row));
}

/** How sure the network is of each digit; nothing if nothing is drawn. */
export function showBars(probabilities: ArrayLike<number> | undefined): void {
    const list = Array.from(probabilities ?? []);
    const best = list.indexOf(Math.max(...list));
    bars.forEach(({ row, fill, text }, digit) => {
        const part = list[digit] ?? 0;
        row.className = digit === best ? "best" : "";
        fill.style.width = `${100 * part}%`;
        text.textContent = probabilities ? `${Math.round(100 * part)}%` : "";
    });
    $("reading").textContent = probabilities ? `Read as ${best}, ${percent(list[best] ?? 0)} sure` : "Nothing drawn yet";
    $("reading").dataset.digit = probabilities ? String(best) : "";
}
